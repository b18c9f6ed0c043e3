"""DAPO's loss: PPO's clip with more room above than below, averaged over all tokens (arXiv:2503.14476, eq. 8)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, loss
from plugrad_policy.losses.ratios import log_ratio
from plugrad_policy.losses.surrogate import ClipRange, clipped_outputs


@loss(needs={"old_logprobs"}, reduction="token", policy_gradient=True)
def dapo(inputs: BatchLossInputs, clip_low: ClipRange = 0.2, clip_high: ClipRange = 0.28) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),  r = pi / pi_old.

    DAPO is this "clip-higher", the mean over tokens (the reduction), groups without advantage left out and a soft penalty of
    overlong completions; only the first two are a loss.

    Args:
        clip_low: how far below 1 the ratio counts; the paper's.
        clip_high: how far above 1 the ratio counts; the paper's. TRL's `dapo` takes 0.2 unless told otherwise.

    Reports:
        clip_fraction: the share of counted tokens that the clip decides: they have no gradient.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    ratio = log_ratio(inputs.trainer_logprobs, inputs.old_logprobs).exp()
    return clipped_outputs(inputs, ratio, low=clip_low, high=clip_high)
