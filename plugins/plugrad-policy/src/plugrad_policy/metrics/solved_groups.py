"""How many of the examples are solved by none, some or all of their rollouts."""

from __future__ import annotations

from plugrad import Mean, Measure, MetricInputs


def solved_groups(inputs: MetricInputs, threshold: float = 1.0) -> dict[str, Measure]:
    """Shares of groups by how many of their rollouts succeed. They add up to 1.

    Only groups that some solve teach an advantage with a group's baseline. Too many of `all` ask for harder examples, and
    too many of `none` for easier ones. `dead_groups` counts groups whose rewards are equal, whatever they are.

    Args:
        threshold: the lowest reward that counts as a success.

    Reports:
        none: the share of groups that no rollout solves.
        some: the share of groups that some solve and some do not.
        all: the share of groups that every rollout solves.
    """
    groups = [[rollout["reward"] >= threshold for rollout in group] for group in inputs.rollouts]
    return {
        "none": Mean.of(float(not any(group)) for group in groups),
        "some": Mean.of(float(any(group) and not all(group)) for group in groups),
        "all": Mean.of(float(all(group)) for group in groups),
    }
