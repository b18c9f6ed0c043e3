"""GSPO: one ratio per sequence, the geometric mean over its tokens (Qwen, arXiv:2507.18071, eq. 5 and 7)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, finite_exp, loss
from plugrad_policy.losses.ratios import sequence_mean
from plugrad_policy.losses.surrogate import ClipRange, clipped_outputs


@loss(needs={"old_logprobs"}, reduction="sequence", policy_gradient=True)
def gspo(inputs: BatchLossInputs, clip_low: ClipRange = 3e-4, clip_high: ClipRange = 4e-4) -> LossOutputs:
    """-min(s A, clip(s, 1 - clip_low, 1 + clip_high) A) at each token,  s = exp(sequence mean of log pi - log pi_old).

    The reduction takes the mean over the tokens, which is the paper's term for the sequence. The gradient with respect
    to each token's log-prob is then s A / tokens.

    Args:
        clip_low: how far below 1 the sequence's ratio may go; the paper's (sec. 5.1). It is three orders of magnitude
            below PPO's, since a mean over tokens moves less than one token. slime leaves PPO's 0.2 in place.
        clip_high: how far above 1 the sequence's ratio may go; the paper's.

    Reports:
        clip_fraction: the share of counted tokens in sequences that the clip decides. They have no gradient.
        ratio: the mean of s over sequences, weighted by their tokens.
    """
    assert inputs.old_logprobs is not None
    token_log_ratio = inputs.trainer_logprobs - inputs.old_logprobs
    ratio = finite_exp(sequence_mean(token_log_ratio, inputs.loss_mask)).expand_as(token_log_ratio)
    return clipped_outputs(inputs, ratio, low=clip_low, high=clip_high)
