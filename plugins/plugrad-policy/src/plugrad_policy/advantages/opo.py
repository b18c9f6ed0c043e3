"""Reward minus the mean of its group, each reward weighed by its completion's length (OPO, arXiv:2505.23585)."""

from __future__ import annotations

from plugrad import AdvantageInputs, AdvantageOutputs, advantage


@advantage(min_rollouts_per_example=2)
def opo(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = r_ij - sum_l L_il r_il / sum_l L_il,  L the length in tokens.

    The baseline of least variance, if the squared norm of a sequence's gradient grows with its length. What is 0 is the mean
    over the group's tokens, not over its rollouts. verl gives a group of one its raw reward; here it is refused.

    prime-rl has the same formula as the option `length_weighted_mean`, and this function answers to that name too.
    """
    lengths = inputs.completion_lengths.to(inputs.rewards)
    baseline = (lengths * inputs.rewards).sum(dim=1, keepdim=True) / lengths.sum(dim=1, keepdim=True).clamp(min=1)
    return AdvantageOutputs(inputs.rewards - baseline)
