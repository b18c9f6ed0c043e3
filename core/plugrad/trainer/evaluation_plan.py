"""What a run completes in its evaluations, and what measures it: made before a checkpoint is put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plugrad.config.tables.evaluation_table import PREFIX
from plugrad.contracts.environment import Example
from plugrad.host.environment import BoundEnvironment
from plugrad.host.evaluation_metrics import EvaluationMetrics
from plugrad.host.metric import BoundMetric
from plugrad.host.stateful_parts import StatefulPart
from plugrad.trainer.checked_run import CheckedRun
from plugrad.trainer.held_out_sets import HeldOut, every_held_out, held_out_of


@dataclass(frozen=True)
class EvaluationPlan:
    """The held-out examples of a run, and instances of its metrics that are not those of training."""

    held_out: Sequence[HeldOut]
    metrics: EvaluationMetrics
    of_training: Sequence[BoundMetric]
    """The instances that see the batches of training."""
    of_sets: Mapping[str, BoundEnvironment]

    @classmethod
    def of(cls, checked: CheckedRun, fitting: Sequence[Example]) -> EvaluationPlan:
        """Return the plan of a run, with those of its held-out examples that fit.

        Raises:
            DataError: none of a set fits.
        """
        every = every_held_out(checked.environment, checked.of_sets)
        left_out = {id(example) for example in every} - {id(example) for example in fitting}
        held_out = held_out_of(checked.run_file, checked.environment, checked.of_sets, left_out)
        prefixes = [prefix for part in held_out for prefix in part.sets]
        metrics = EvaluationMetrics.of(checked.selection, checked.run_file, prefixes)
        return cls(held_out, metrics, checked.selection.metrics, checked.of_sets)

    @property
    def every_metric(self) -> list[BoundMetric]:
        """All instances of metrics, each with a label of its own."""
        return [*self.of_training, *self.metrics.all]

    @property
    def parts(self) -> list[StatefulPart]:
        """What may keep state, beside the metrics."""
        environments = [
            StatefulPart(f"environment/{PREFIX}/{name}", bound.component, bound.environment)
            for name, bound in self.of_sets.items()
        ]
        return [*environments, *self.metrics.advantage_parts()]
