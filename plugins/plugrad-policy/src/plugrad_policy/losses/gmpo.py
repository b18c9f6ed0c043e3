"""GMPO: the geometric mean of clipped token ratios (arXiv:2507.20673)."""

from __future__ import annotations

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.ratios import sequence_mean
from plugrad_policy.losses.surrogate import ClipRange


@loss(needs={"old_logprobs"}, reduction="sequence", policy_gradient=True)
def gmpo(inputs: BatchLossInputs, clip_low: ClipRange = 0.4, clip_high: ClipRange = 0.4) -> LossOutputs:
    """-A exp(mean of l_t) at each of the sequence's tokens,  l = log pi - log pi_old, clipped where A would push it on.

    l_t is at most clip_high where A > 0 and at least -clip_low where A < 0. A clipped token has no gradient but still
    counts in the mean. The formula assumes that all tokens of a sequence share one advantage, as in the paper.

    Args:
        clip_low: the lower bound of the log-ratio; a ratio of exp(-0.4) = 0.67. The paper's.
        clip_high: the upper bound of the log-ratio; a ratio of exp(0.4) = 1.49. The paper's. verl takes PPO's
            `clip_ratio`, 0.2, for both bounds.

    Reports:
        clip_fraction: the share of counted tokens that are clipped. They have no gradient.
        ratio: the mean of exp(mean of l_t) over sequences, weighted by their tokens.
    """
    assert inputs.old_logprobs is not None
    counted = inputs.loss_mask
    advantages = torch.where(counted, inputs.advantages, 0.0)
    unclipped = inputs.trainer_logprobs - inputs.old_logprobs
    clipped = torch.where(advantages > 0, unclipped.clamp(max=clip_high), unclipped.clamp(min=-clip_low))
    ratio = finite_exp(sequence_mean(clipped, counted)).expand_as(clipped)
    metrics = {"clip_fraction": Mean.over(clipped != unclipped, counted), "ratio": Mean.over(ratio, counted)}
    return LossOutputs(-ratio * advantages, metrics)
