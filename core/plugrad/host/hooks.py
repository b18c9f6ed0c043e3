"""Core's own implementation of the computing hooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.measures import Measure
from plugrad.contracts.metric import MetricInputs
from plugrad.hookspecs import hookimpl
from plugrad.host.advantage import BoundAdvantage, compute_advantages
from plugrad.host.loss import BoundLoss, compute_loss
from plugrad.host.metric import BoundMetric, compute_metrics


@dataclass(frozen=True)
class Host:
    """Calls the bound components. Extensions wrap it."""

    advantage: BoundAdvantage
    metrics: list[BoundMetric]

    @hookimpl
    def prepare_advantages(self, inputs: AdvantageInputs) -> AdvantageInputs:
        """Return `inputs`."""
        return inputs

    @hookimpl
    def compute_advantages(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Call the selected advantage."""
        return compute_advantages(self.advantage, inputs)

    @hookimpl
    def prepare_loss(self, component: BoundLoss, inputs: BatchLossInputs) -> BatchLossInputs:
        """Return `inputs`."""
        return inputs

    @hookimpl
    def compute_loss(self, component: BoundLoss, inputs: BatchLossInputs) -> LossOutputs:
        """Call the loss."""
        return compute_loss(component, inputs)

    @hookimpl
    def compute_metrics(self, inputs: MetricInputs) -> Mapping[str, Measure]:
        """Call every metric."""
        return compute_metrics(self.metrics, inputs)

    @hookimpl
    def before_update(self) -> bool:
        """Go on."""
        return True
