"""Statistics of the rewards."""

from __future__ import annotations

from plugrad.contracts.measures import Max, Mean, Measure, Min
from plugrad.contracts.metric import MetricInputs


def reward(inputs: MetricInputs) -> dict[str, Measure]:
    """Statistics of the batch's rewards as the environment scored them, before any extension changes them.

    Reports:
        mean: the mean.
        min: the minimum.
        max: the maximum.
        equal_groups: the share of groups whose rewards are all equal. With a group baseline they give no signal.
    """
    equal = [len({rollout["reward"] for rollout in group}) == 1 for group in inputs.rollouts]
    return {
        "mean": Mean.of(inputs.rewards),
        "min": Min(inputs.rewards.min()),
        "max": Max(inputs.rewards.max()),
        "equal_groups": Mean.of(map(float, equal)),
    }
