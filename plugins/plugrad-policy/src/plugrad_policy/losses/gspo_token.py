"""GSPO-token: GSPO's ratio with a separate advantage for each token (Qwen, arXiv:2507.18071, eq. 13 and 14)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, finite_exp, loss
from plugrad_policy.losses.ratios import sequence_mean
from plugrad_policy.losses.surrogate import ClipRange, clipped_outputs


@loss(needs={"old_logprobs"}, reduction="sequence", policy_gradient=True)
def gspo_token(inputs: BatchLossInputs, clip_low: ClipRange = 3e-4, clip_high: ClipRange = 4e-4) -> LossOutputs:
    """-min(s_t A_t, clip(s_t, 1 - clip_low, 1 + clip_high) A_t),  s_t = sg(s) pi(t) / sg(pi(t)),  s as in `gspo`.

    Every s_t has the value of s but the gradient of its own token alone. If all tokens of a sequence share one
    advantage, value and gradient equal those of `gspo`. If they do not, `gspo` gives each token the gradient of the
    mean advantage.

    Args:
        clip_low: how far below 1 the sequence's ratio may go; the paper's.
        clip_high: how far above 1 the sequence's ratio may go; the paper's.

    Reports:
        clip_fraction: the share of counted tokens that the clip decides. They have no gradient.
        ratio: the mean of s over sequences, weighted by their tokens.
    """
    assert inputs.old_logprobs is not None
    policy = inputs.trainer_logprobs
    mean_log_ratio = sequence_mean((policy - inputs.old_logprobs).detach(), inputs.loss_mask)
    ratio = finite_exp(mean_log_ratio + policy - policy.detach())
    return clipped_outputs(inputs, ratio, low=clip_low, high=clip_high)
