"""What a metric rounds: numbers that do not follow float64 rewards, advantages and log-probs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from plugrad.contracts.needs import METRIC_NEEDS
from plugrad.contracts.rollout import Rollout
from plugrad.testing.metrics.metric_trial import MetricTrial
from plugrad.testing.metrics.trial_shares import draw_batch
from plugrad.testing.numbers import Numbers
from plugrad.testing.precision import Rounding, moved_by, rounding_of

REWARDS = "rewards"

EXACT = frozenset({"group_order", "adds_up", "rollout_order", "masked_slots", "padding", "state"})
"""The checks that compare in float64."""


def metric_rounding(metric: MetricTrial) -> Rounding | None:
    """Return what a metric rounds to a narrower dtype than float64, or None."""
    inputs = draw_batch()
    unread = METRIC_NEEDS - metric.component.needs

    def moved(field: str, share: float) -> Numbers:
        value: dict[str, Any] = {field: moved_by(getattr(inputs, field), share)}
        if field == REWARDS:
            rewards = iter(value[field].tolist())
            value["rollouts"] = [[_rewarded(rollout, next(rewards)) for rollout in group] for group in inputs.rollouts]
        return metric.numbers(replace(inputs, **value))

    fields = [name for name, value in vars(inputs).items() if isinstance(value, Tensor) and value.is_floating_point()]
    return rounding_of([name for name in fields if name not in unread], moved)


def _rewarded(rollout: Rollout, reward: float) -> Rollout:
    components = {**rollout["reward_components"], "right": reward - rollout["reward_components"]["form"]}
    return Rollout(**{**rollout, "reward": reward, "reward_components": components})
