"""The checks of a metric. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `shares`: the rank, place and neighbours of a group must not matter.
- `metric_values`: values that are finite, repeatable and determined by the inputs.
- `metric_precision`: what is rounded to a narrower dtype.

`portable`, one level up, has the promises of every kind. `trial_shares` draws the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise, built_on, checks_of_promises
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.metrics.metric_precision import EXACT, metric_rounding
from plugrad.testing.metrics.metric_trial import MetricTrial
from plugrad.testing.metrics.metric_values import DETERMINISTIC, RUNS, VALUES
from plugrad.testing.metrics.shares import SHARED
from plugrad.testing.portable import PORTABLE
from plugrad.testing.precision import precision_promise

OF_COMPARISONS = (*SHARED, *VALUES)
PRECISION = precision_promise(metric_rounding, [promise for promise in OF_COMPARISONS if promise.name in EXACT])
FOUNDATIONS = (DETERMINISTIC, *built_on([DETERMINISTIC], [PRECISION]))
PROMISES: tuple[Promise[Any], ...] = (
    RUNS,
    *FOUNDATIONS,
    *built_on(FOUNDATIONS, OF_COMPARISONS),
    *PORTABLE,
)


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
