"""What every metric promises, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.metrics.metric_trial import MetricTrial
from plugrad.testing.metrics.metric_values import RUNS, VALUES
from plugrad.testing.metrics.shares import SHARED
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (RUNS, *SHARED, *VALUES, *PORTABLE)


def metric_checks(
    metric: ComponentLike, *, options: Mapping[str, Any] | None = None, strict: bool = False
) -> Iterator[Check]:
    """Yield a check of each promise of a metric.

    Args:
        metric: a name, `module:function`, `file.py:function`, or the function or class itself.
        options: its options; the others take their defaults.
        strict: ask also for what plugrad does not rely on; of a metric there is nothing more.

    Raises:
        PlugradError: it cannot be found, or does not take these options.
    """
    component = component_of(metric, "metric", options)
    trial = MetricTrial(component)
    for promise in PROMISES:
        yield Check(promise, component, trial)
