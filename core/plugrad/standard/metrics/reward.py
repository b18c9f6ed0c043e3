"""The rewards, as the environment gave them."""

from __future__ import annotations

from plugrad.contracts.measures import Max, Mean, Measure, Min
from plugrad.contracts.metric import MetricInputs


def reward(inputs: MetricInputs) -> dict[str, Measure]:
    """The rewards of the batch, before any extension changes them.

    Reports:
        mean: their mean.
        min: the least.
        max: the greatest.
        equal_groups: the share of groups whose rewards are all equal. Where the group is the baseline, they teach nothing.
    """
    equal = [len({rollout["reward"] for rollout in group}) == 1 for group in inputs.rollouts]
    return {
        "mean": Mean.of(inputs.rewards),
        "min": Min(inputs.rewards.min()),
        "max": Max(inputs.rewards.max()),
        "equal_groups": Mean.of(map(float, equal)),
    }
