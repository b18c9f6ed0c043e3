"""The components of the reward."""

from __future__ import annotations

from collections import defaultdict

from plugrad import Mean, Measure, MetricInputs


def reward_components(inputs: MetricInputs) -> dict[str, Measure]:
    """The mean of each component of the score, if the environment returns a mapping.

    Reports:
        NAME: the mean over the rollouts that have this component.
    """
    values: defaultdict[str, list[float]] = defaultdict(list)
    for group in inputs.rollouts:
        for rollout in group:
            for name, value in rollout["reward_components"].items():
                values[name].append(value)
    return {name: Mean.of(found) for name, found in values.items()}
