"""Train on high-entropy tokens only ("Beyond the 80/20 rule", arXiv:2506.01939)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, finite_exp, loss
from plugrad_policy.losses.surrogate import ClipRange, clipped_surrogate
from plugrad_policy.losses.ties import lower_bound, reaches

Quantile = Annotated[float, Field(gt=0, le=1)]


@loss(needs={"old_logprobs", "entropy"}, policy_gradient=True, whole_batch=True)
def top_entropy_quantile(
    inputs: BatchLossInputs, quantile: Quantile = 0.2, clip_low: ClipRange = 0.2, clip_high: ClipRange = 0.28
) -> LossOutputs:
    """-M min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),  r = pi / pi_old.

    M is 1 where the policy's entropy is in the top `quantile` of the counted tokens of the whole batch (`whole_batch`),
    else 0. TRL computes the bound over one micro-batch of every rank. A masked token contributes zero and stays in the
    denominator, as in TRL.

    Args:
        quantile: the share of tokens to train on; the paper's 20%. TRL's `top_entropy_quantile` is 1.0, all of them.
        clip_low: how far below 1 the ratio may go; the default of DAPO, on which the paper builds.
        clip_high: how far above 1 the ratio may go; DAPO's default.

    Reports:
        entropy_bound: the mean over sequences of the lowest entropy that is trained on, in nats.
        is_masked: the share of counted tokens with M = 0.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    assert inputs.entropy is not None
    counted = inputs.loss_mask
    entropy = at_least_float32(inputs.entropy.detach())
    bound = lower_bound(entropy, counted, quantile)
    masked = ~reaches(entropy, bound)
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    per_token = clipped_surrogate(ratio, inputs.advantages, low=clip_low, high=clip_high)
    metrics: dict[str, Tensor | Mean] = {
        "entropy_bound": bound,
        "is_masked": Mean.over(masked, counted),
        "ratio": Mean.over(ratio, counted),
    }
    return LossOutputs(torch.where(masked, 0.0, per_token), metrics)
