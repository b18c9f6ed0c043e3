"""OPO: reward minus its group's mean, with each reward weighted by completion length (arXiv:2505.23585)."""

from __future__ import annotations

import torch

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards


@advantage(min_rollouts_per_example=2)
def opo(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = r_ij - sum_l L_il r_il / sum_l L_il,  L the length in tokens.

    This baseline has the least variance if the squared norm of a sequence's gradient grows with its length. Advantages
    average to 0 over the group's tokens, not over its rollouts. verl gives a group of one its raw reward; plugrad
    rejects such a group.

    prime-rl offers the same formula as `length_weighted_mean`. This function is registered under that name too.
    """
    rewards, lengths = inputs.rewards.double(), inputs.completion_lengths.double()
    baseline = (lengths * rewards).sum(dim=1, keepdim=True) / lengths.sum(dim=1, keepdim=True).clamp(min=1)
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, rewards - baseline))
