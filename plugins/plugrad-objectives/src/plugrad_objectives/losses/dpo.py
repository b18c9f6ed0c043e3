"""DPO: learn a preference from pairs, without a reward model (arXiv:2305.18290, eq. 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from plugrad import BatchLossInputs, LossOutputs
from plugrad_objectives.losses.pairs import By, Pairs, needs_of_pairs, of_pairs, sequence_means, sequence_sums

Kind = Literal["sigmoid", "hinge", "ipo"]


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {"ref_logprobs"} | needs_of_pairs(options)


@of_pairs(needs=_needs)
def dpo(
    inputs: BatchLossInputs,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    kind: Kind = "sigmoid",
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0,
    mean_over_tokens: bool = False,
    by: By = "member",
) -> LossOutputs:
    """-log sigmoid(beta h),  h = log(pi / pi_ref)(chosen) - log(pi / pi_ref)(rejected).

    The mean over pairs, whatever the number of rollouts. log pi of a completion is the sum over its tokens. Other kinds
    put another function of h in its place: `hinge` max(0, 1 - beta h), as SLiC (arXiv:2305.10425) applied to h; `ipo`
    (h - 1 / (2 beta))^2 (arXiv:2310.12036, eq. 17).

    Args:
        beta: how far the policy is kept near the reference; 0.1 as in the paper's experiments, TRL and NeMo RL's
            `reference_policy_kl_penalty` is another name of it.
        kind: the function of h.
        label_smoothing: the share of pairs whose labels are thought to be wrong: the loss of the pair the other way round
            gets this weight (cDPO). 0 in the paper, TRL and NeMo RL.
        mean_over_tokens: take the mean over the tokens of a completion instead of the sum, as Tulu 3 does
            (arXiv:2411.15124). TRL does so for `ipo`.
        by: `member`: the first of `references` is chosen, the others are rejected. `reward`: of sampled completions, the
            one with the higher reward is chosen.

    Reports:
        accuracy: the share of pairs with h > 0.
        margin: the mean of beta h over pairs.
        chosen_reward: the mean of beta log(pi / pi_ref) over the chosen ones.
        rejected_reward: the mean of beta log(pi / pi_ref) over the rejected ones.
    """
    assert inputs.ref_logprobs is not None
    pairs, of_row = Pairs.of(inputs, by), sequence_means if mean_over_tokens else sequence_sums
    log_ratios = of_row(inputs.trainer_logprobs - inputs.ref_logprobs, inputs)
    h = pairs.differences(log_ratios)
    losses = (1 - label_smoothing) * _of(h, kind, beta)
    if label_smoothing:
        losses = losses + label_smoothing * _of(-h, kind, beta)
    return LossOutputs(pairs.per_row(losses), pairs.measures(beta * log_ratios))


def _of(h: Tensor, kind: Kind, beta: float) -> Tensor:
    if kind == "sigmoid":
        return -logsigmoid(beta * h)
    return torch.relu(1 - beta * h) if kind == "hinge" else (h - 1 / (2 * beta)).square()
