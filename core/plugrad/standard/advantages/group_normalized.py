"""Reward minus the mean of its group, over the group's standard deviation (GRPO, arXiv:2402.03300, section 4.1.2)."""

from __future__ import annotations

import torch

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.markers import advantage
from plugrad.formulas.residues import equal_rewards


@advantage(min_rollouts_per_example=2)
def group_normalized(inputs: AdvantageInputs, eps: float = 1e-6) -> AdvantageOutputs:
    """A_ij = (r_ij - mean_j r_ij) / (std_j r_ij + eps), with the unbiased standard deviation (divisor n - 1).

    A group with equal rewards has the advantage 0.

    Args:
        eps: added to the standard deviation. The default is slime's; TRL uses 1e-4.
    """
    rewards = inputs.rewards.double()
    mean = rewards.mean(dim=1, keepdim=True)
    std = rewards.std(dim=1, keepdim=True)
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, (rewards - mean) / (std + eps)))
