"""LUSPO: GSPO, with each sequence weighted by its length (arXiv:2602.05261)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, loss
from plugrad_policy.losses.gspo import gspo
from plugrad_policy.losses.surrogate import ClipRange


@loss(needs={"old_logprobs"}, reduction="sequence_sum", policy_gradient=True)
def luspo(inputs: BatchLossInputs, clip_low: ClipRange = 2e-3, clip_high: ClipRange = 2.5e-3) -> LossOutputs:
    """-min(s A, clip(s, 1 - clip_low, 1 + clip_high) A) at each token,  s = exp(sequence mean of log pi - log pi_old).

    The reduction sums over the tokens, which gives the sequence's length times `gspo`'s term. GSPO divides each
    token's gradient by the length of its sequence, which favours short answers.

    The implementation follows TRL's `loss_type = "luspo"` with one ratio per sequence, and the README of the authors'
    code.

    Args:
        clip_low: how far below 1 the sequence's ratio may go; the paper's (sec. 5.1, as TRL cites it).
        clip_high: how far above 1 the sequence's ratio may go; same source.

    Reports:
        clip_fraction: the share of counted tokens in sequences that the clip decides. They have no gradient.
        ratio: the mean of s over sequences, weighted by their tokens.
    """
    return gspo(inputs, clip_low=clip_low, clip_high=clip_high)
