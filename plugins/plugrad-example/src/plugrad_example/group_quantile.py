"""Reward minus a quantile of its group. With the median, the default, the minority of right or wrong answers learns."""

from __future__ import annotations

import torch

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards


@advantage()
def group_quantile(inputs: AdvantageInputs, quantile: float = 0.5) -> AdvantageOutputs:
    """A_ij = r_ij - Q_i,  Q_i the `quantile` (from 0 to 1) of the rewards r_i1 ... r_in, interpolated linearly.

    A group of one, and a group with equal rewards, has an advantage of 0.

    This package's own. A single extreme reward moves a median less than a mean. In exchange, the gradient is biased,
    because a rollout's own reward is part of its baseline.
    """
    rewards = inputs.rewards.double()
    difference = rewards - rewards.quantile(quantile, dim=1, keepdim=True)
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, difference))
