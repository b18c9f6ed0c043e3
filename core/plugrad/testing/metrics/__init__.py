"""The checks of a metric. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `shares`: the rank, place and neighbours of a group must not matter.
- `metric_values`: values that are finite, repeatable and determined by the inputs.

`portable`, one level up, has the promises of every kind. `trial_shares` draws the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise, checks_of_promises
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.metrics.metric_trial import MetricTrial
from plugrad.testing.metrics.metric_values import RUNS, VALUES
from plugrad.testing.metrics.shares import SHARED
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (RUNS, *SHARED, *VALUES, *PORTABLE)


def metric_checks(
    metric: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Iterator[Check]:
    """Yield a check of each promise of a metric.

    Args:
        metric: a name, `module:function`, `file.py:function`, or the function or class itself.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad itself does not rely on; metrics have no such checks.
        example: columns of the examples behind the trial's rollouts, beside those that every example has.

    Raises:
        PlugradError: it is not found, or does not take these options.
    """
    component = component_of(metric, "metric", options)
    yield from checks_of_promises(PROMISES, component, MetricTrial(component), example)
