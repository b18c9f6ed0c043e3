"""A metric on trial: its numbers by name, added up over ranks as in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plugrad.contracts.measures import Measures
from plugrad.contracts.metric import MetricInputs
from plugrad.host.metric import BoundMetric, compute_metric
from plugrad.host.trial import random_state_of
from plugrad.registry.bind import Component
from plugrad.testing.numbers import Numbers


@dataclass(frozen=True)
class MetricTrial:
    """A metric on trial."""

    component: Component

    def fresh(self) -> BoundMetric:
        """Return a new instance, as a run binds it."""
        return BoundMetric(self.component, self.component.create(), self.component.name)

    def numbers(self, inputs: MetricInputs, metric: BoundMetric | None = None, seed: int = 0) -> Numbers:
        """Return its numbers for a batch. Its random numbers come from this seed."""
        return self.added_up([inputs], metric, seed)

    def added_up(self, parts: Sequence[MetricInputs], metric: BoundMetric | None = None, seed: int = 0) -> Numbers:
        """Return its numbers over the shares of several ranks."""
        bound, measures = metric or self.fresh(), Measures()
        with random_state_of(seed):
            for part in parts:
                measures.update(compute_metric(bound, part))
        return measures.values_by_name()
