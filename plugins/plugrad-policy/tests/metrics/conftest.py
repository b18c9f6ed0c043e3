"""Builders of the inputs of metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from plugrad import MetricInputs, Rollout


@pytest.fixture
def rollout() -> Callable[..., Rollout]:
    """Build a rollout."""

    def build(
        reward: float = 0.0,
        ids: Sequence[int] = (1, 2),
        *,
        components: Mapping[str, float] | None = None,
        truncated: bool = False,
        versions: Sequence[int] | None = None,
    ) -> Rollout:
        return Rollout(
            prompt="1+1=",
            completion="2",
            prompt_ids=[0],
            completion_ids=list(ids),
            inference_logprobs=[-1.0] * len(ids),
            reward=reward,
            reward_components=dict(components or {}),
            truncated=truncated,
            example={},
            metrics={},
            policy_versions=list(versions) if versions is not None else [0] * len(ids),
        )

    return build


@pytest.fixture
def batch() -> Callable[..., MetricInputs]:
    """Build the inputs for groups of rollouts, one prompt token each; tensors are zeros unless `fields` says otherwise."""

    def build(*groups: list[Rollout], **fields: Any) -> MetricInputs:
        rollouts = [rollout for group in groups for rollout in group]
        lengths = torch.tensor([1 + len(rollout["completion_ids"]) for rollout in rollouts])
        positions = torch.arange(int(lengths.max()))
        mask = (positions >= 1) & (positions < lengths.unsqueeze(1))
        zeros = torch.zeros(mask.shape, dtype=torch.float64)
        given: dict[str, Any] = {
            "rollouts": list(groups),
            "rewards": torch.tensor([rollout["reward"] for rollout in rollouts], dtype=torch.float64),
            "advantages": zeros,
            "loss_mask": mask,
            "trainer_logprobs": zeros,
            "inference_logprobs": zeros,
            "group_ids": torch.tensor([i for i, group in enumerate(groups) for _ in group]),
        }
        return MetricInputs(**{**given, **fields})

    return build


@pytest.fixture
def values() -> Callable[..., dict[str, float]]:
    """Call a metric; return its numbers."""

    def call(metric: Callable[..., Mapping[str, Any]], *parts: MetricInputs, **options: Any) -> dict[str, float]:
        found = [metric(part, **options) for part in parts]
        names = {name for measures in found for name in measures}
        total = {}
        for name in names:
            measures = [part[name] for part in found if name in part]
            total[name] = sum(measures[1:], start=measures[0]).value()
        return total

    return call
