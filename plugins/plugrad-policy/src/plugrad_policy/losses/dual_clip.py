"""Dual-clip PPO: an upper bound on the loss of tokens with a negative advantage (arXiv:1912.09729)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.surrogate import ClipRange, clipped_surrogate, is_clipped

Ceiling = Annotated[float, Field(gt=1)]


@loss(needs={"old_logprobs"}, policy_gradient=True)
def dual_clip(
    inputs: BatchLossInputs, clip_low: ClipRange = 0.2, clip_high: ClipRange = 0.2, ceiling: Ceiling = 3.0
) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), and for A < 0 at most -ceiling A;  r = pi / pi_old.

    A token above the ceiling has no gradient. Known as `clip_ratio_c` (verl, 3.0), `eps_clip_c` (slime, off) and
    `delta` (TRL, off).

    Args:
        clip_low: how far below 1 the ratio may go; PPO's default.
        clip_high: how far above 1 the ratio may go; PPO's default.
        ceiling: the paper's c, above 1: the largest ratio that multiplies a negative advantage. The paper uses 3.0.

    Reports:
        clip_fraction: the share of counted tokens that the first clip decides. They have no gradient.
        ceiling_fraction: the share of counted tokens at the ceiling. They have no gradient either.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    advantages, counted = inputs.advantages, inputs.loss_mask
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    per_token = clipped_surrogate(ratio, advantages, low=clip_low, high=clip_high)
    at_ceiling = (advantages < 0) & (ratio.detach() > ceiling)
    metrics = {
        "clip_fraction": Mean.over(is_clipped(ratio, advantages, low=clip_low, high=clip_high), counted),
        "ceiling_fraction": Mean.over(at_ceiling, counted),
        "ratio": Mean.over(ratio, counted),
    }
    return LossOutputs(torch.where(at_ceiling, -ceiling * advantages, per_token), metrics)
