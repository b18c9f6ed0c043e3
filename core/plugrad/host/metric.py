"""Call metrics, each isolated from the others and from the run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from plugrad.contracts.measures import Measures
from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.needs import METRIC_NEEDS
from plugrad.contracts.rollout import Rollout
from plugrad.errors import ContractError
from plugrad.host.calling import blaming, call_with_inputs
from plugrad.host.received import Received, copies_of_groups
from plugrad.host.reported import add_metrics
from plugrad.host.watched_inputs import Watch
from plugrad.registry.bind import Component

logger = logging.getLogger("plugrad")

FAILURES_ALLOWED = 3


@dataclass
class BoundMetric:
    """A metric of this run. It is switched off after its third failure, because a metric never stops a run."""

    component: Component
    call: Callable[..., Any]
    label: str
    is_listed: bool = True
    """Whether the run file names it. A metric that is only installed may fail without stopping the run."""
    failures: int = 0
    reads: frozenset[str] | None = None
    """The fields of its inputs that it read in the pre-flight; None where there was none."""
    watch: Watch | None = None
    """Sees what it reads."""

    def switch_off(self) -> None:
        """Stop calling this metric."""
        self.failures = FAILURES_ALLOWED

    def fresh(self) -> BoundMetric:
        """Return the same metric with a new instance."""
        return self.relabelled(self.label)

    def relabelled(self, label: str, watch: Watch | None = None) -> BoundMetric:
        """Return the same metric with a new instance, and numbers of its own."""
        return BoundMetric(self.component, self.component.create(), label, self.is_listed, reads=self.reads, watch=watch)


def compute_metric(metric: BoundMetric, inputs: MetricInputs, sampled: list[list[Rollout]] | None = None) -> Measures:
    """Call one metric, and return its measures under names prefixed with its label.

    Args:
        sampled: copies of the rollouts, which show whether the metric changed them; made here if they are not given.

    Raises:
        ContractError: it raised, changed its inputs, or returned something other than a mapping of measures.
    """
    owner = str(metric.component)
    hidden: dict[str, Any] = dict.fromkeys(METRIC_NEEDS - metric.component.needs)
    given = replace(inputs, **hidden)
    call = metric.call if metric.watch is None else metric.watch.around(metric.call)
    with torch.no_grad():
        found = call_with_inputs(owner, call, given, Received.of(given, sampled))
    if not isinstance(found, Mapping):
        raise ContractError(f"{owner} returned {type(found).__name__}; a metric returns a mapping from names to numbers.")
    measures = Measures()
    with blaming(owner):
        add_metrics(measures, found, len(inputs.rewards), f"{owner} returned", prefix=f"{metric.label}/")
    return measures


def compute_metrics(metrics: list[BoundMetric], inputs: MetricInputs) -> Measures:
    """Call every metric that is not switched off. A failure is logged and does not affect the other metrics."""
    measures = Measures()
    working = [metric for metric in metrics if metric.failures < FAILURES_ALLOWED]
    # One copy for all: where many metrics read many tokens, copying takes longer than they do.
    sampled = copies_of_groups(inputs.rollouts) if working else []
    for metric in working:
        try:
            measures.update(compute_metric(metric, inputs, sampled))
        except Exception as error:
            # It may have changed some before it failed.
            inputs = replace(inputs, rollouts=copies_of_groups(sampled))
            metric.failures += 1
            off = "; it is switched off" if metric.failures >= FAILURES_ALLOWED else ""
            logger.warning("%s%s", error, off)
    return measures
