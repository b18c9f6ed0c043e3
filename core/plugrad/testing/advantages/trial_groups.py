"""Groups for trials of advantages, and the ways to reorder and change them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle

import torch

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.needs import SCORES
from plugrad.contracts.rollout import Rollout
from plugrad.host.synthetic import scores_of
from plugrad.testing.inputs import LONGEST, rollouts
from plugrad.testing.precision import moved_by

NUM_EXAMPLES, GROUP_SIZE = 3, 8
Change = Callable[[Rollout], Rollout]


def draw_groups(
    seed: int = 0,
    *,
    num_rollouts: int = GROUP_SIZE,
    reward: float | None = None,
    lengths: Sequence[int] | None = None,
) -> AdvantageInputs:
    """Draw three groups with rewards of two components; the random state of the process stays as it is.

    Args:
        seed: of every number.
        num_rollouts: in each group.
        reward: of every rollout, greedy ones included. By default each has its own, between 0 and 1.
        lengths: of the completions in tokens, repeated as needed. By default between 2 and 8.
    """
    draw = random.Random(seed)

    def drawn_reward() -> float:
        drawn = draw.random()
        return drawn if reward is None else reward

    rewards = [[drawn_reward() for _ in range(num_rollouts)] for _ in range(NUM_EXAMPLES)]
    given = cycle(lengths or ())
    sizes = [[next(given, 0) or draw.randint(2, LONGEST) for _ in row] for row in rewards]
    components = [[_components(value, draw.random()) for value in row] for row in rewards]
    groups = rollouts(rewards, lengths=sizes, components=components, seed=seed)
    return batch(groups, [drawn_reward() for _ in rewards])


def batch(groups: list[list[Rollout]], greedy_rewards: Sequence[float]) -> AdvantageInputs:
    """Return these groups as the inputs of an advantage."""
    greedy = torch.tensor(greedy_rewards, dtype=torch.double)
    return AdvantageInputs(rollouts=groups, greedy_rewards=greedy, **scores_of(groups, SCORES))


def in_order(inputs: AdvantageInputs, orders: Sequence[Sequence[int]]) -> AdvantageInputs:
    """Return the rollouts of each group in these orders."""
    groups = [[group[j] for j in order] for group, order in zip(inputs.rollouts, orders, strict=True)]
    return batch(groups, _greedy(inputs))


def examples_of(inputs: AdvantageInputs, examples: Sequence[int]) -> AdvantageInputs:
    """Return some groups, in this order."""
    return batch([inputs.rollouts[i] for i in examples], [_greedy(inputs)[i] for i in examples])


def joined(parts: Sequence[AdvantageInputs]) -> AdvantageInputs:
    """Return the groups of several batches as one batch."""
    return batch([group for part in parts for group in part.rollouts], [r for part in parts for r in _greedy(part)])


def shifted(inputs: AdvantageInputs, by: float) -> AdvantageInputs:
    """Return the inputs with every reward raised by this much, in one component."""
    return batch(
        _each(inputs, lambda rollout: _rewarded(rollout, rollout["reward"] + by)), [r + by for r in _greedy(inputs)]
    )


def scaled(inputs: AdvantageInputs, by: float) -> AdvantageInputs:
    """Return the inputs with every reward and component multiplied by this."""

    def change(rollout: Rollout) -> Rollout:
        components = {name: by * value for name, value in rollout["reward_components"].items()}
        return Rollout(**{**rollout, "reward": by * rollout["reward"], "reward_components": components})

    return batch(_each(inputs, change), [by * r for r in _greedy(inputs)])


def rewards_moved(inputs: AdvantageInputs, share: float) -> AdvantageInputs:
    """Return the inputs with each reward, greedy ones included, larger by up to this share, in one component."""
    moved = moved_by(inputs.rewards, share).tolist()
    groups = [[_rewarded(*pair) for pair in zip(*group, strict=True)] for group in zip(inputs.rollouts, moved, strict=True)]
    return batch(groups, moved_by(torch.tensor(_greedy(inputs), dtype=torch.double), share).tolist())


def zero_or_one(inputs: AdvantageInputs) -> AdvantageInputs:
    """Return the inputs with rewards of 0 and 1: those of at least a half become 1."""
    return batch(
        _each(inputs, lambda rollout: _rewarded(rollout, float(rollout["reward"] >= 0.5))),
        [float(r >= 0.5) for r in _greedy(inputs)],
    )


def exchanged(inputs: AdvantageInputs, places: Sequence[tuple[int, int]]) -> AdvantageInputs:
    """Return the inputs with the rewards of two rollouts of each group exchanged, in one component, and nothing else."""
    groups = [list(group) for group in inputs.rollouts]
    for group, (one, other) in zip(groups, places, strict=True):
        first, second = group[one], group[other]
        group[one], group[other] = _rewarded(first, second["reward"]), _rewarded(second, first["reward"])
    return batch(groups, _greedy(inputs))


def in_single_precision(inputs: AdvantageInputs) -> AdvantageInputs:
    """Return the inputs with rewards in float32, as other training loops pass them."""
    assert inputs.greedy_rewards is not None
    return replace(inputs, rewards=inputs.rewards.float(), greedy_rewards=inputs.greedy_rewards.float())


def with_nan(inputs: AdvantageInputs, place: tuple[int, int]) -> AdvantageInputs:
    """Return the inputs with a NaN reward, and NaN components, at one place."""
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
