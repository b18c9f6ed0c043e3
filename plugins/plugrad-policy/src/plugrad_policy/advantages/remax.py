"""ReMax: reward minus the reward of the greedy completion of the same prompt (arXiv:2310.10505)."""

from __future__ import annotations

import torch

from plugrad import AdvantageInputs, AdvantageOutputs, ContractError, advantage, equal_rewards


@advantage(needs={"greedy_rewards"}, signal_from_equal_rewards=True)
def remax(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = r_ij - g_i,  g_i the reward of one completion that is decoded greedily.

    The baseline depends on no sampled token, so the gradient is unbiased even with one rollout per example.

    Raises:
        ContractError: there are no greedy rewards. A mean is not used instead: that would be another algorithm.
    """
    if inputs.greedy_rewards is None:
        raise ContractError(
            "remax subtracts the reward of a greedy completion, but AdvantageInputs.greedy_rewards is None. A run samples "
            "one per example. Elsewhere, pass them, or use the advantage 'rloo', whose baseline is the other rollouts."
        )
    rewards = inputs.rewards.double()
    greedy = inputs.greedy_rewards.to(rewards).unsqueeze(1).expand_as(rewards)
    same = equal_rewards(torch.stack([rewards.flatten(), greedy.flatten()], dim=1)).view_as(rewards)
    return AdvantageOutputs(torch.where(same, 0.0, rewards - greedy))
