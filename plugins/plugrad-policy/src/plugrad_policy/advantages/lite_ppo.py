"""Lite PPO: reward minus its group's mean, divided by the batch's standard deviation (arXiv:2508.08221)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards


@advantage(min_rollouts_per_example=2, mixes_groups=True)
def lite_ppo(inputs: AdvantageInputs, eps: Annotated[float, Field(gt=0)] = 1e-4) -> AdvantageOutputs:
    """A_ij = (r_ij - mean_j r_ij) / (std r + eps), the unbiased standard deviation of all rewards of the batch.

    The batch's standard deviation, unlike the group's own, does not blow up a group in which one rollout differs
    slightly. It is TRL's `scale_rewards="batch"`. `reinforce_plus_plus_baseline` divides by the standard deviation of
    the *differences* instead, which leaves out the variation between group means.

    Args:
        eps: added to the standard deviation. The default is TRL's.
    """
    rewards = inputs.rewards.double()
    advantages = (rewards - rewards.mean(dim=1, keepdim=True)) / (rewards.std() + eps)
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, advantages))
