"""Where numbers are equal but for rounding: rewards of a group, and advantages that are none."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

REWARD_RESIDUE = 4 * torch.finfo(torch.float32).eps
"""Reward models and other trainers compute rewards in float32, in whose last digits equal rewards may differ."""
ADVANTAGE_RESIDUE = 1e-9
"""What a baseline that was rounded differently leaves of equal rewards. Advantages that learn are many times larger."""


def equal_rewards(rewards: Float[Tensor, "groups rollouts"]) -> Bool[Tensor, "groups 1"]:
    """Return which groups have equal rewards: max r - min r <= 4.8e-7 max |r|, four float32 roundings.

    Such rewards are equal but for rounding. Divided by their standard deviation, the rounding would become an advantage.
    """
    values = rewards.double()
    spread = values.amax(dim=1, keepdim=True) - values.amin(dim=1, keepdim=True)
    return spread <= REWARD_RESIDUE * values.abs().amax(dim=1, keepdim=True)


def no_signal(advantages: Float[Tensor, "*shape"], tolerance: float = ADVANTAGE_RESIDUE) -> Bool[Tensor, "*shape"]:
    """Return where an advantage is 0 but for rounding: |A| <= tolerance."""
    return advantages.abs() <= tolerance
