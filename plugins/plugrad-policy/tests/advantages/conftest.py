"""Builders of groups, for the tests of all advantages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from plugrad import AdvantageInputs, Rollout


@pytest.fixture
def rewards() -> Callable[..., AdvantageInputs]:
    """Build groups with these rewards, in float64; each completion is two tokens long unless `lengths` says otherwise."""

    def build(*groups: list[float], lengths: list[list[int]] | None = None, **fields: Any) -> AdvantageInputs:
        values = torch.tensor(groups, dtype=torch.float64)
        return AdvantageInputs(
            rewards=values, completion_lengths=torch.tensor(lengths) if lengths else torch.full(values.shape, 2), **fields
        )

    return build


@pytest.fixture
def rollout() -> Callable[..., Rollout]:
    """Build a rollout with this reward."""

    def build(reward: float, length: int = 2, components: Mapping[str, float] | None = None, **example: Any) -> Rollout:
        return Rollout(
            prompt="1+1=",
            completion="2",
            prompt_ids=[0, 0, 0],
            completion_ids=[1] * length,
            inference_logprobs=[-1.0] * length,
            reward=reward,
            reward_components=dict(components or {}),
            truncated=False,
            example=example,
            metrics={},
            policy_versions=[0] * length,
        )

    return build
