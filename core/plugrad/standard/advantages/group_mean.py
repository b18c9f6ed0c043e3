"""Reward minus the mean of its group, without a standard deviation (Dr. GRPO, arXiv:2503.20783)."""

from __future__ import annotations

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.markers import advantage


@advantage(min_rollouts_per_example=2)
def group_mean(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = r_ij - mean_j r_ij. A group with equal rewards has the advantage 0."""
    return AdvantageOutputs(inputs.rewards - inputs.rewards.mean(dim=1, keepdim=True))
