"""REINFORCE++ with baseline: reward minus its group's mean, whitened over the whole batch (arXiv:2501.03262)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards
from plugrad_policy.advantages.whitening import Over, whitened


@advantage(min_rollouts_per_example=2, mixes_groups=True)
def reinforce_plus_plus_baseline(
    inputs: AdvantageInputs, over: Over = "tokens", eps: Annotated[float, Field(gt=0)] = 1e-8
) -> AdvantageOutputs:
    """A_ij = (d_ij - mean d) / sqrt(var d + eps),  d_ij = r_ij - mean_j r_ij, over the batch of all ranks.

    The paper's KL penalty is a separate loss: add `kl_to_reference` with `estimator = "k2"`. Averaged over tokens, d
    may not have a mean of 0. A group with equal rewards then gets a small advantage if completion lengths differ in
    other groups.

    Args:
        over: "tokens" computes mean and variance over all tokens of the batch, as in the paper, OpenRLHF and verl.
            "rollouts" counts each rollout once.
        eps: added to the variance. The default is verl's. OpenRLHF uses a variance of at least 1e-8.
    """
    rewards = inputs.rewards.double()
    difference = torch.where(equal_rewards(rewards), 0.0, rewards - rewards.mean(dim=1, keepdim=True))
    return AdvantageOutputs(whitened(difference, inputs, over, eps))
