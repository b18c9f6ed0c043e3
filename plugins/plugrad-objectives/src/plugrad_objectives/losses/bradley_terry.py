"""Bradley-Terry: a reward model from pairs, of which the chosen one has the higher score (arXiv:2203.02155, eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from plugrad import BatchLossInputs, LossOutputs
from plugrad_objectives.losses.pairs import By, Pairs, needs_of_pairs, of_pairs


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {"values"} | needs_of_pairs(options)


@of_pairs(needs=_needs)
def bradley_terry(inputs: BatchLossInputs, center: Annotated[float, Field(ge=0)] = 0.0, by: By = "member") -> LossOutputs:
    """-log sigmoid(s(chosen) - s(rejected)) + center (s(chosen) + s(rejected))^2,  s = the critic's value at the last token.

    The mean over pairs, whatever the number of rollouts. The run file has a `[critic]`, whose value head becomes the
    reward head: the value of the state in which the end-of-sequence token was chosen has read the whole completion.

    Args:
        center: pulls the scores towards 0, which the first term leaves open (arXiv:2312.09244, section 2.1). 0 in the paper
            and in NeMo RL; TRL recommends 0.01.
        by: `member`: the first of `references` is chosen, the others are rejected. `reward`: of sampled completions, the
            one with the higher reward is chosen.

    Reports:
        accuracy: the share of pairs whose chosen one has the higher score.
        margin: the mean of s(chosen) - s(rejected) over pairs.
        chosen_reward: the mean of s over the chosen ones.
        rejected_reward: the mean of s over the rejected ones.
    """
    assert inputs.values is not None
    pairs, scores = Pairs.of(inputs, by), at_last_token(inputs.values, inputs)
    losses = -logsigmoid(pairs.differences(scores))
    if center:
        losses = losses + center * (scores[pairs.better] + scores[pairs.worse]).square()
    return LossOutputs(pairs.per_row(losses), pairs.measures(scores))


def at_last_token(values: Float[Tensor, "batch seq"], inputs: BatchLossInputs) -> Float[Tensor, "batch"]:
    """Return the entry of the last counted token of each row, 0 where nothing counts."""
    counted = inputs.loss_mask
    is_last = counted & (counted.flip(1).cumsum(1).flip(1) == 1)
    return torch.where(is_last, values, 0.0).sum(dim=1)
