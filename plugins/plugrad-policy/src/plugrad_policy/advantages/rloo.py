"""RLOO: reward minus the mean of the group's other rewards (arXiv:2402.14740)."""

from __future__ import annotations

import torch

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards


@advantage(min_rollouts_per_example=2)
def rloo(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = r_ij - 1 / (n - 1) sum_{l != j} r_il, which is n / (n - 1) times core's `group_mean`.

    A baseline without the rollout's own reward keeps the gradient unbiased. A group of one is rejected before a model
    loads. verl gives a group of one its raw reward, others give it 0.
    """
    rewards = inputs.rewards.double()
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, rewards - others))
