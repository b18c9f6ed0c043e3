"""MaxRL: reward minus its group's mean, divided by that mean, so hard examples weigh more (arXiv:2602.02710)."""

from __future__ import annotations

import torch

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards


@advantage(min_rollouts_per_example=2)
def maxrl(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = (r_ij - mean_i) / mean_i; 0 for a group whose mean is not above 0.

    For rewards of 0 and 1 it gives an unbiased gradient of log p, the log-likelihood of success, expanded in powers of
    1 - p up to the group size. A group's weight is about 1 / p. The scale of the rewards cancels. Rewards must not be
    negative: a mean close to 0 would magnify them.
    """
    rewards = inputs.rewards.double()
    mean = rewards.mean(dim=1, keepdim=True)
    # Not `mean > 0`: a reward that is NaN must not become an advantage of 0.
    has_signal = ~((mean <= 0) | equal_rewards(rewards))
    return AdvantageOutputs(torch.where(has_signal, (rewards - mean) / torch.where(has_signal, mean, 1.0), 0.0))
