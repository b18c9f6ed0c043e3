"""A batch for trials of metrics, and the shares, orders and padding that must not matter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from plugrad.contracts.metric import MetricInputs
from plugrad.host.synthetic import map_tensors
from plugrad.testing.inputs import metric_inputs, rollouts

NUM_EXAMPLES, GROUP_SIZE = 4, 4
REWARDS = (0.0, 0.5, 1.0)
Place = tuple[int, int]
"""Of a rollout: the index of its group, and its index in the group."""


def draw_batch(seed: int = 0) -> MetricInputs:
    """Draw four groups of four rollouts, with rewards of two components; the random state of the process stays as it is."""
    draw = random.Random(seed)
    rewards = [[draw.choice(REWARDS) for _ in range(GROUP_SIZE)] for _ in range(NUM_EXAMPLES)]
    components = [[{"right": reward - 0.25, "form": 0.25} for reward in row] for row in rewards]
    return metric_inputs(rollouts(rewards, components=components, seed=seed), seed=seed)


def places_of(inputs: MetricInputs) -> list[list[Place]]:
    """Return the places of all rollouts by group."""
    return [[(i, j) for j in range(len(group))] for i, group in enumerate(inputs.rollouts)]


def with_rollouts(inputs: MetricInputs, places: Sequence[Sequence[Place]]) -> MetricInputs:
    """Return some groups and rollouts, in this order."""
    starts = torch.tensor([0, *map(len, inputs.rollouts)]).cumsum(0).tolist()
    rows = [starts[i] + j for group in places for i, j in group]
    chosen = map_tensors(inputs, lambda _, value: value[rows])
    return replace(chosen, rollouts=[[inputs.rollouts[i][j] for i, j in group] for group in places])


def shares(inputs: MetricInputs, sizes: Sequence[int]) -> list[MetricInputs]:
    """Return the shares of several ranks, with this many groups each."""
    places, start, parts = places_of(inputs), 0, []
    for size in sizes:
        parts.append(with_rollouts(inputs, places[start : start + size]))
        start += size
    return parts


def padded(inputs: MetricInputs, columns: int) -> MetricInputs:
    """Return the inputs with this many more columns of padding on the right."""
    return map_tensors(inputs, lambda _, value: pad(value, (0, columns)) if value.ndim == 2 else value)


def with_garbage(inputs: MetricInputs, garbage: float) -> MetricInputs:
    """Return the inputs with other numbers, of both signs, in the masked slots."""
    signs = torch.ones(inputs.loss_mask.shape, dtype=torch.double)
    signs[:, ::2] = -1

    def filled(_: str, value: Tensor) -> Tensor:
        if value.ndim != 2 or not value.is_floating_point():
            return value
        return torch.where(inputs.loss_mask, value, (garbage * signs).to(value.dtype))

    return map_tensors(inputs, filled)
