"""Thin a curve to what a screen shows, so that a run of thousands of steps opens at once."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, median
from typing import Any

from plugrad.report.reported_run import Curve

MOST_BUCKETS = 300
"""A chart is narrower than twice this in pixels."""


def thinned(curve: Curve, most_buckets: int = MOST_BUCKETS) -> dict[str, Any]:
    """Return a curve as the page draws it: `x`, `y`, and `gap`, the usual distance of its steps.

    A curve of more than two points a bucket is cut into buckets of equally many points. Of each, the smallest and the
    largest value stay, in their order: no spike is lost. `mx` and `my` then have the middle and the mean of each bucket,
    which is what can be smoothed: the extremes would bend the average.
    """
    steps, values = curve.steps, curve.values
    gap = median(after - before for before, after in pairwise(steps)) if len(steps) > 1 else 1
    drawn: dict[str, Any] = {"gap": gap or 1}
    if len(steps) <= 2 * most_buckets:
        return drawn | {"x": list(steps), "y": [_short(value) for value in values]}
    kept, middles, means = [0], [], []
    for bucket in range(most_buckets):
        start, end = (len(steps) * edge // most_buckets for edge in (bucket, bucket + 1))
        known = {index: value for index in range(start, end) if (value := values[index]) is not None}
        # A bucket without a number leaves a gap in the line.
        kept += sorted({min(known, key=known.__getitem__), max(known, key=known.__getitem__)}) if known else [start]
        middles.append(_short((steps[start] + steps[end - 1]) / 2))
        means.append(_short(fmean(known.values()) if known else None))
    kept = sorted({*kept, len(steps) - 1})
    return drawn | {"x": [steps[i] for i in kept], "y": [_short(values[i]) for i in kept], "mx": middles, "my": means}


def _short(value: float | None) -> float | None:
    """Return six digits of a number: more than can be seen."""
    if value is None or value == int(value):
        return value
    return float(f"{value:.6g}")
