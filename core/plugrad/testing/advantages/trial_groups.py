"""Groups to try advantages on, and the ways in which they are turned and changed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.rollout import Rollout
from plugrad.testing.inputs import LONGEST, rollouts

NUM_EXAMPLES, GROUP_SIZE = 3, 8
Change = Callable[[Rollout], Rollout]


@dataclass(frozen=True)
class Draw:
    """How three groups with rewards between 0 and 1, each of two components, are drawn."""

    seed: int = 0
    num_rollouts: int = GROUP_SIZE
    reward: float | None = None
    """Of every rollout, and of the greedy ones; by default each has its own."""
    lengths: Sequence[int] | None = None
    """Of the completions, over and over again; by default between 2 and 8 tokens."""

    def __call__(self) -> AdvantageInputs:
        """Draw them; the random state of the process stays as it is."""
        draw = random.Random(self.seed)
        rewards = [[self._reward(draw) for _ in range(self.num_rollouts)] for _ in range(NUM_EXAMPLES)]
        given = cycle(self.lengths or ())
        lengths = [[next(given, 0) or draw.randint(2, LONGEST) for _ in row] for row in rewards]
        components = [[_components(reward, draw.random()) for reward in row] for row in rewards]
        groups = rollouts(rewards, lengths=lengths, components=components, seed=self.seed)
        return batch(groups, [self._reward(draw) for _ in rewards])

    def _reward(self, draw: random.Random) -> float:
        drawn = draw.random()
        return drawn if self.reward is None else self.reward


def batch(groups: list[list[Rollout]], greedy_rewards: Sequence[float]) -> AdvantageInputs:
    """Return these groups as an advantage is given them."""
    return AdvantageInputs(rollouts=groups, greedy_rewards=torch.tensor(greedy_rewards, dtype=torch.double))


def in_order(inputs: AdvantageInputs, orders: Sequence[Sequence[int]]) -> AdvantageInputs:
    """Return the rollouts of each group in another order."""
    groups = [[group[j] for j in order] for group, order in zip(inputs.rollouts, orders, strict=True)]
    return batch(groups, _greedy(inputs))


def examples_of(inputs: AdvantageInputs, examples: Sequence[int]) -> AdvantageInputs:
    """Return some groups, in this order."""
    return batch([inputs.rollouts[i] for i in examples], [_greedy(inputs)[i] for i in examples])


def joined(parts: Sequence[AdvantageInputs]) -> AdvantageInputs:
    """Return the groups of several batches as one."""
    return batch([group for part in parts for group in part.rollouts], [r for part in parts for r in _greedy(part)])


def shifted(inputs: AdvantageInputs, by: float) -> AdvantageInputs:
    """Return the same with so much more reward for everybody, in one component."""
    return batch(
        _each(inputs, lambda rollout: _rewarded(rollout, rollout["reward"] + by)), [r + by for r in _greedy(inputs)]
    )


def scaled(inputs: AdvantageInputs, by: float) -> AdvantageInputs:
    """Return the same with so many times the reward, and each component."""

    def change(rollout: Rollout) -> Rollout:
        components = {name: by * value for name, value in rollout["reward_components"].items()}
        return Rollout(**{**rollout, "reward": by * rollout["reward"], "reward_components": components})

    return batch(_each(inputs, change), [by * r for r in _greedy(inputs)])


def with_nan(inputs: AdvantageInputs, place: tuple[int, int]) -> AdvantageInputs:
    """Return the same where the reward of one rollout, and each component of it, is NaN."""
    groups = [list(group) for group in inputs.rollouts]
    rollout = groups[place[0]][place[1]]
    components = dict.fromkeys(rollout["reward_components"], math.nan)
    groups[place[0]][place[1]] = Rollout(**{**rollout, "reward": math.nan, "reward_components": components})
    return batch(groups, _greedy(inputs))


def _each(inputs: AdvantageInputs, change: Change) -> list[list[Rollout]]:
    return [[change(rollout) for rollout in group] for group in inputs.rollouts]


def _rewarded(rollout: Rollout, reward: float) -> Rollout:
    components = _components(reward, rollout["reward_components"]["form"])
    return Rollout(**{**rollout, "reward": reward, "reward_components": components})


def _components(reward: float, form: float) -> dict[str, float]:
    return {"right": reward - form, "form": form}


def _greedy(inputs: AdvantageInputs) -> list[float]:
    assert inputs.greedy_rewards is not None
    rewards: list[float] = inputs.greedy_rewards.tolist()
    return rewards
