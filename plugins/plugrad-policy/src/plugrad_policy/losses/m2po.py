"""M2PO: mask the fewest tokens that keep the second moment of the log-ratios small (arXiv:2510.01161, algorithm 1)."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, finite_exp, loss
from plugrad_policy.losses.ties import greatest, residue


@loss(policy_gradient=True, whole_batch=True)
def m2po(inputs: BatchLossInputs, threshold: Annotated[float, Field(gt=0)] = 0.04) -> LossOutputs:
    """-M r A,  r = pi / mu,  mu the policy that sampled.

    Where A pushes a ratio further from 1, on the side on which it is (A > 0 and r > 1, or A < 0 and r < 1), the tokens
    with the greatest (log r)^2 get M = 0, one after the other, until the mean of (log r)^2 over the rest of them is not
    above the threshold. M is 1 elsewhere. The tokens are those of the whole batch (`whole_batch`). A masked token
    contributes zero and stays in the denominator, as in the paper and Trinity-RFT.

    A clip holds back tokens of high entropy first, whose ratios move most. The mean hardly masks anything until a few
    ratios run away, so that rollouts of hundreds of updates ago can be learned from.

    Args:
        threshold: the greatest mean of (log r)^2; the paper's and Trinity-RFT's.

    Reports:
        second_moment: the mean of (log r)^2 over the tokens that may be masked, before any is.
        is_masked: the share of counted tokens with M = 0.
        ratio: the mean of r over counted tokens.
    """
    policy, advantages, counted = inputs.trainer_logprobs, inputs.advantages, inputs.loss_mask
    log_ratio = at_least_float32(policy) - inputs.inference_logprobs
    squared, further = log_ratio.detach().square(), counted & (advantages * log_ratio.detach() > 0)
    masked = runaways(squared, further, threshold)
    ratio = finite_exp(log_ratio)
    metrics = {
        "second_moment": Mean.over(squared, further),
        "is_masked": Mean.over(masked, counted),
        "ratio": Mean.over(ratio, counted),
    }
    return LossOutputs(torch.where(masked, 0.0, -ratio * advantages), metrics)


def runaways(
    values: Float[Tensor, "batch seq"], candidates: Bool[Tensor, "batch seq"], threshold: float
) -> Bool[Tensor, "batch seq"]:
    """Return the fewest of the greatest candidates without which the mean of the others is at most the threshold."""
    ordered = values[candidates].sort().values
    means = ordered.cumsum(0) / torch.arange(1, len(ordered) + 1, dtype=values.dtype, device=values.device)
    # The means of ascending numbers ascend.
    number = int((means > threshold + residue(values)).sum())
    return greatest(values, candidates, number, tolerance=residue(values))
