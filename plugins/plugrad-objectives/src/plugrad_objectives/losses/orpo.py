"""ORPO: supervised fine-tuning on the chosen completion, and odds against the rejected one (arXiv:2403.07691, eq. 6)."""

from __future__ import annotations

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from plugrad import BatchLossInputs, LossOutputs, Mean
from plugrad_objectives.losses.pairs import By, Pairs, of_pairs, sequence_means

LEAST = 1e-12


@of_pairs()
def orpo(inputs: BatchLossInputs, weight: Annotated[float, Field(ge=0)] = 0.1, by: By = "member") -> LossOutputs:
    """-m(chosen) - weight log sigmoid(o(chosen) - o(rejected)),  o = m - log(1 - e^m),  m = the mean log pi of a completion.

    The mean over pairs, whatever the number of rollouts. It needs no reference model.

    Args:
        weight: of the odds ratio, the paper's lambda; 0.1 as for its largest models, and TRL's `beta`.
        by: `member`: the first of `references` is chosen, the others are rejected. `reward`: of sampled completions, the
            one with the higher reward is chosen.

    Reports:
        nll: the mean of -m over the chosen ones, in nats a token.
        accuracy: the share of pairs whose chosen one has the higher odds.
        margin: the mean of the log of the odds ratio over pairs.
        chosen_reward: the mean of o over the chosen ones.
        rejected_reward: the mean of o over the rejected ones.
    """
    pairs = Pairs.of(inputs, by)
    means = sequence_means(inputs.trainer_logprobs, inputs)
    odds = log_odds(means)
    losses = -means[pairs.better] - weight * logsigmoid(pairs.differences(odds))
    return LossOutputs(pairs.per_row(losses), {"nll": Mean.of(-means[pairs.better]), **pairs.measures(odds)})


def log_odds(means: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Return log(p / (1 - p)) of p = e^m; where p is rounded to 1, a large number."""
    return means - (-means.expm1()).clamp(min=LEAST).log()
