"""Reward minus the mean of its group, without a standard deviation (Dr. GRPO, arXiv:2503.20783)."""

from __future__ import annotations

import torch

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.markers import advantage
from plugrad.formulas.residues import equal_rewards


@advantage(min_rollouts_per_example=2)
def group_mean(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = r_ij - mean_j r_ij. A group with equal rewards has the advantage 0."""
    rewards = inputs.rewards.double()
    difference = rewards - rewards.mean(dim=1, keepdim=True)
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, difference))
