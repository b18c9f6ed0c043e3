"""LUSPO: GSPO, with each sequence weighted by its length (arXiv:2602.05261)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, loss
from plugrad_policy.losses.gspo import gspo
from plugrad_policy.losses.surrogate import ClipRange


@loss(needs={"old_logprobs"}, reduction="sequence_sum", policy_gradient=True)
def luspo(inputs: BatchLossInputs, clip_low: ClipRange = 2e-3, clip_high: ClipRange = 2.5e-3) -> LossOutputs:
    """-min(s A, clip(s, 1 - clip_low, 1 + clip_high) A) at each token,  s = exp(sequence mean of log pi - log pi_old).

    Summed over the tokens, which is what the reduction takes, this is the sequence's length times `gspo`'s term: GSPO
    divides the gradient of a token by the length of its sequence, and so favours short answers.

    What is followed is TRL's `loss_type = "luspo"` with the ratio per sequence, and the README of the authors' code.

    Args:
        clip_low: how far below 1 the sequence's ratio counts; the paper's (sec. 5.1, as TRL cites it).
        clip_high: how far above 1 it counts; the paper's, as before.

    Reports:
        clip_fraction: the share of counted tokens in sequences that the clip decides: they have no gradient.
        ratio: the mean of s over sequences, in proportion to their tokens.
    """
    return gspo(inputs, clip_low=clip_low, clip_high=clip_high)
