"""PPO's clipped surrogate (arXiv:1707.06347, eq. 7), per token."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import loss
from plugrad.contracts.measures import Mean
from plugrad.formulas.ratios import finite_exp

ClipRange = Annotated[float, Field(ge=0)]


@loss(needs={"old_logprobs"}, policy_gradient=True)
def ppo_clip(inputs: BatchLossInputs, clip_eps: ClipRange = 0.2, clip_eps_high: ClipRange | None = None) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip_eps, 1 + clip_eps_high) A),  r = pi / pi_old.

    Args:
        clip_eps: the clip range below 1. The default is PPO's.
        clip_eps_high: the clip range above 1. Default: `clip_eps`.

    Reports:
        clip_fraction: the share of counted tokens that are clipped and therefore have no gradient.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    high = clip_eps if clip_eps_high is None else clip_eps_high
    clipped = ratio.clamp(1 - clip_eps, 1 + high)
    per_token = -torch.minimum(ratio * inputs.advantages, clipped * inputs.advantages)
    is_clipped = clipped * inputs.advantages < ratio * inputs.advantages
    metrics = {"clip_fraction": Mean.over(is_clipped, inputs.loss_mask), "ratio": Mean.over(ratio, inputs.loss_mask)}
    return LossOutputs(per_token, metrics)
