"""What an advantage rounds: values that do not follow float64 rewards, log-probs and values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from plugrad.contracts.needs import SCORES
from plugrad.testing.advantages.advantage_trial import AdvantageTrial
from plugrad.testing.advantages.trial_groups import rewards_moved
from plugrad.testing.numbers import Numbers
from plugrad.testing.precision import Rounding, moved_by, rounding_of

REWARDS = "rewards"

EXACT = frozenset({"groups_apart", "rollout_order", "group_order", "state", "equal_rewards", "nan_reward"})
"""The checks that compare in float64."""


def advantage_rounding(advantage: AdvantageTrial) -> Rounding | None:
    """Return what an advantage rounds to a narrower dtype than float64, or None."""
    inputs = advantage.draw()

    def moved(field: str, share: float) -> Numbers:
        if field == REWARDS:
            return advantage.numbers(rewards_moved(inputs, share))
        scores = [[moved_by(tokens, share) for tokens in group] for group in getattr(inputs, field)]
        value: dict[str, Any] = {field: scores}
        return advantage.numbers(replace(inputs, **value))

    return rounding_of([REWARDS, *sorted(SCORES & advantage.component.needs)], moved)
