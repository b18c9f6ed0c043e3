"""Off-policy sequence masking: mask bad sequences that the policy has left (DeepSeek-V3.2, arXiv:2512.02556)."""

from __future__ import annotations

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.ratios import sequence_mean
from plugrad_policy.losses.surrogate import ClipRange, clipped_surrogate, is_clipped


@loss(needs={"old_logprobs"}, policy_gradient=True)
def opsm(inputs: BatchLossInputs, delta: float = 1e-4, clip_low: ClipRange = 0.2, clip_high: ClipRange = 0.2) -> LossOutputs:
    """-M min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),  r = pi / pi_old.

    M is 0 where A < 0 and the sequence's mean of log mu - log pi exceeds delta, else 1. mu is the probability that the
    engine reported while sampling. The drift therefore includes both later updates and trainer-engine mismatch, as in
    the paper and TRL. slime measures drift from the old policy instead. A masked token contributes zero and stays in
    the denominator.

    Args:
        delta: the mean log-ratio, in nats, above which a sequence with a negative advantage is masked. The paper gives
            no number. 1e-4 is slime's default; TRL's `off_policy_mask_threshold` has none.
        clip_low: how far below 1 the ratio may go; PPO's default.
        clip_high: how far above 1 the ratio may go; PPO's default.

    Reports:
        is_masked: the share of counted tokens with M = 0.
        clip_fraction: the share of counted tokens that the clip decides.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    policy, advantages, counted = inputs.trainer_logprobs, inputs.advantages, inputs.loss_mask
    ratio = finite_exp(policy - inputs.old_logprobs)
    distance = sequence_mean(inputs.inference_logprobs - policy.detach(), counted)
    masked = (advantages < 0) & (distance > delta)
    per_token = clipped_surrogate(ratio, advantages, low=clip_low, high=clip_high)
    metrics = {
        "is_masked": Mean.over(masked, counted),
        "clip_fraction": Mean.over(is_clipped(ratio, advantages, low=clip_low, high=clip_high), counted),
        "ratio": Mean.over(ratio, counted),
    }
    return LossOutputs(torch.where(masked, 0.0, per_token), metrics)
