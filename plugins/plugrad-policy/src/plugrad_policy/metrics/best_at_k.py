"""best@k: the mean reward of the best of k attempts, for rewards of any kind (verl's `best@N`)."""

from __future__ import annotations

from math import comb
from typing import Annotated

from pydantic import Field

from plugrad import Mean, Measure, MetricInputs


def best_at_k(inputs: MetricInputs, ks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 16)) -> dict[str, Measure]:
    """The mean of max r over all sets of k of an example's n rollouts: sum_i r_(i) C(i - 1, k - 1) / C(n, k), r_(1) least.

    Unbiased. For rewards of 0 and 1 it is `pass_at_k`. verl estimates it from a thousand random draws with replacement.

    Args:
        ks: the values of k. Values above n are left out.

    Reports:
        1, 2, 4, 8, 16: the mean over examples, for each k.
    """
    groups = [sorted(rollout["reward"] for rollout in group) for group in inputs.rollouts]
    estimates = {str(k): [_estimate(group, k) for group in groups if len(group) >= k] for k in ks}
    return {name: Mean.of(values) for name, values in estimates.items() if values}


def _estimate(ascending: list[float], k: int) -> float:
    # The i-th smallest is the greatest of a set if the rest of the set is among the i - 1 below it.
    total = sum(reward * comb(place, k - 1) for place, reward in enumerate(ascending))
    return total / comb(len(ascending), k)
