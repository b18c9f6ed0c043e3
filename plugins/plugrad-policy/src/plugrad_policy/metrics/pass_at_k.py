"""pass@k: the probability that at least one of k attempts succeeds (arXiv:2107.03374, eq. 1)."""

from __future__ import annotations

from math import comb
from typing import Annotated

from pydantic import Field

from plugrad import Mean, Measure, MetricInputs


def pass_at_k(
    inputs: MetricInputs, ks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 16), threshold: float = 1.0
) -> dict[str, Measure]:
    """1 - C(n - c, k) / C(n, k) for n rollouts of an example, c of which succeed: unbiased, unlike 1 - (1 - c / n)^k.

    Args:
        ks: the values of k. Values above n are left out.
        threshold: the lowest reward that counts as a success.

    Reports:
        1, 2, 4, 8, 16: the mean over examples, for each k.
    """
    groups = [[rollout["reward"] >= threshold for rollout in group] for group in inputs.rollouts]
    estimates = {str(k): [_estimate(len(g), sum(g), k) for g in groups if len(g) >= k] for k in ks}
    return {name: Mean.of(values) for name, values in estimates.items() if values}


def _estimate(num_rollouts: int, num_successes: int, k: int) -> float:
    return 1 - comb(num_rollouts - num_successes, k) / comb(num_rollouts, k)
