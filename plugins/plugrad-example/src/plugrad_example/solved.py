"""How many examples are within reach of the policy, and how many it has mastered."""

from __future__ import annotations

from plugrad import Mean, Measure, MetricInputs, metric


@metric()
def solved(inputs: MetricInputs, threshold: float = 1.0) -> dict[str, Measure]:
    """The share of examples in which `any` and `all` rollouts have a reward of at least `threshold`.

    This package's own.
    """
    reached = [[rollout["reward"] >= threshold for rollout in group] for group in inputs.rollouts]
    return {"any": Mean.of(map(any, reached)), "all": Mean.of(map(all, reached))}
