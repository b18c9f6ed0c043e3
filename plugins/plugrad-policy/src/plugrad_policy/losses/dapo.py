"""DAPO: PPO's clip with a higher upper bound, averaged over all tokens (arXiv:2503.14476, eq. 8)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, finite_exp, loss
from plugrad_policy.losses.surrogate import ClipRange, clipped_outputs


@loss(needs={"old_logprobs"}, reduction="token", policy_gradient=True)
def dapo(inputs: BatchLossInputs, clip_low: ClipRange = 0.2, clip_high: ClipRange = 0.28) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),  r = pi / pi_old.

    DAPO combines this "clip-higher" with a mean over tokens (the reduction), dynamic sampling that drops groups
    without advantage, and a soft penalty on overlong completions. Only the first two are part of the loss.

    Args:
        clip_low: how far below 1 the ratio may go; the paper's.
        clip_high: how far above 1 the ratio may go; the paper's. TRL's `dapo` uses 0.2 by default.

    Reports:
        clip_fraction: the share of counted tokens that the clip decides. They have no gradient.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    return clipped_outputs(inputs, ratio, low=clip_low, high=clip_high)
