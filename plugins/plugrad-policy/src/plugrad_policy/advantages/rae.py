"""Role-conditioned advantage: reward minus a running mean of the same agent's rewards (SPIRAL, arXiv:2506.24119)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage


@advantage(mixes_groups=True, order_dependent=True, signal_from_equal_rewards=True)
class Rae:
    """A_ij = r_ij - b_a,  then b_a <- decay b_a + (1 - decay) r_ij, rollout after rollout, in their order; b_a starts at
    0.

    In a zero-sum game the mean reward over all agents is always 0, but each agent's own mean is not. The reward is
    compared before it updates the baseline, as in prime-rl and the authors' code, so the gradient is unbiased. Without
    agents this is REINFORCE with a running baseline.

    Args:
        decay: how much of the baseline each rollout keeps. The default is that of prime-rl and the authors.
        column: the column of the examples that names the agent. Examples without it share one baseline.
    """

    def __init__(self, decay: Annotated[float, Field(ge=0, lt=1)] = 0.95, column: str = "agent") -> None:
        self._decay = decay
        self._column = column
        self._baselines: dict[str, float] = {}

    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return the advantages of the batch, and update the baselines with its rewards."""
        agents = [[str(rollout["example"].get(self._column, "")) for rollout in group] for group in inputs.rollouts]
        if not agents:
            agents = [[""] * inputs.rewards.shape[1]] * len(inputs.rewards)
        advantages = [
            [self._compare(agent, reward) for agent, reward in zip(named, rewards, strict=True)]
            for named, rewards in zip(agents, inputs.rewards.tolist(), strict=True)
        ]
        return AdvantageOutputs(torch.tensor(advantages, dtype=torch.double, device=inputs.rewards.device))

    def state_dict(self) -> dict[str, Any]:
        """Return the baselines by agent."""
        return {"baselines": dict(self._baselines)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the baselines from `state`."""
        self._baselines = dict(state["baselines"])

    def _compare(self, agent: str, reward: float) -> float:
        baseline = self._baselines.get(agent, 0.0)
        self._baselines[agent] = self._decay * baseline + (1 - self._decay) * reward
        return reward - baseline
