"""The rewards, as the environment gave them."""

from __future__ import annotations

from plugrad.contracts.measures import Max, Mean, Measure, Min
from plugrad.contracts.metric import MetricInputs


def reward(inputs: MetricInputs) -> dict[str, Measure]:
    """Mean, least and greatest reward, and the share of groups whose rewards are all equal (no signal)."""
    equal = [len({rollout["reward"] for rollout in group}) == 1 for group in inputs.rollouts]
    return {
        "mean": Mean.of(inputs.rewards),
        "min": Min(inputs.rewards.min()),
        "max": Max(inputs.rewards.max()),
        "equal_groups": Mean.of(map(float, equal)),
    }
