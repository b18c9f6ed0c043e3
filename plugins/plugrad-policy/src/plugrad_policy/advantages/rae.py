"""Reward minus a running mean of the same agent's rewards (role-conditioned advantage, SPIRAL, arXiv:2506.24119)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage


@advantage(mixes_groups=True, order_dependent=True, signal_from_equal_rewards=True)
class Rae:
    """A_ij = r_ij - b_a,  then b_a <- decay b_a + (1 - decay) r_ij, rollout after rollout, in their order; b_a starts at 0.

    In a game that one agent wins if another loses, the mean over all is 0 whatever they do; each agent's own is not. The
    reward is compared before it enters the baseline, as in prime-rl and the authors' code, so that the gradient is unbiased.
    Without agents it is REINFORCE with a running baseline.

    Args:
        decay: how much of the baseline stays with each rollout. The default is prime-rl's and the authors'.
        column: the examples' column that names the agent; examples without it share a baseline.
    """

    def __init__(self, decay: Annotated[float, Field(ge=0, lt=1)] = 0.95, column: str = "agent") -> None:
        self._decay = decay
        self._column = column
        self._baselines: dict[str, float] = {}

    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return the advantages of the batch; its rewards have then entered the baselines."""
        agents = [[str(rollout["example"].get(self._column, "")) for rollout in group] for group in inputs.rollouts]
        if not agents:
            agents = [[""] * inputs.rewards.shape[1]] * len(inputs.rewards)
        advantages = [
            [self._compare(agent, reward) for agent, reward in zip(named, rewards, strict=True)]
            for named, rewards in zip(agents, inputs.rewards.tolist(), strict=True)
        ]
        return AdvantageOutputs(inputs.rewards.new_tensor(advantages))

    def state_dict(self) -> dict[str, Any]:
        """Return the baselines by agent."""
        return {"baselines": dict(self._baselines)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the baselines of `state`."""
        self._baselines = dict(state["baselines"])

    def _compare(self, agent: str, reward: float) -> float:
        baseline = self._baselines.get(agent, 0.0)
        self._baselines[agent] = self._decay * baseline + (1 - self._decay) * reward
        return reward - baseline
