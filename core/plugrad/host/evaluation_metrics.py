"""Which metrics of a run also run on held-out completions, and what has to be computed for them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from plugrad.config.run_file import RunFile
from plugrad.config.tables.evaluation_table import PREFIX, EvaluationTable
from plugrad.contracts.markers import AdvantageFacts, MetricFacts
from plugrad.contracts.needs import GIVEN_TO_METRICS, OF_UPDATES
from plugrad.errors import RunFileError, did_you_mean
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.metric import FAILURES_ALLOWED, BoundMetric
from plugrad.host.stateful_parts import StatefulPart
from plugrad.host.watched_inputs import Watch
from plugrad.shown import printable, shown

logger = logging.getLogger("plugrad")

OF_A_PASS = frozenset({"trainer_logprobs", "entropy", "values", "ref_logprobs"})
"""What a model says of completions that are there."""


class Selection(Protocol):
    """The components of a run, of which it takes the advantage and the metrics."""

    @property
    def advantage(self) -> BoundAdvantage:
        """The advantage."""
        ...

    @property
    def metrics(self) -> Sequence[BoundMetric]:
        """The metrics."""
        ...


@dataclass(frozen=True)
class SetMetrics:
    """The metrics of one set of held-out examples: instances of their own, whose state is not that of training."""

    metrics: list[BoundMetric]
    advantage: BoundAdvantage | None
    """None where no metric reads advantages."""


@dataclass(frozen=True)
class EvaluationMetrics:
    """The metrics that run on held-out completions."""

    by_set: dict[str, SetMetrics] = field(default_factory=dict)
    """By what the names of the set's numbers begin with."""
    fields: frozenset[str] = frozenset()
    """What any of them reads."""

    @classmethod
    def of(cls, selection: Selection, run_file: RunFile, prefixes: Iterable[str]) -> EvaluationMetrics:
        """Make instances for each set; none if the evaluation has no metrics."""
        chosen = chosen_metrics(selection, run_file)
        fields = frozenset[str]().union(*map(fields_of, chosen))
        # Where the models say anything of the completions, they give log-probs too.
        lacking = GIVEN_TO_METRICS - fields - (OF_A_PASS if fields & OF_A_PASS else frozenset())
        advantage = selection.advantage if "advantages" in fields else None
        by_set = {
            prefix: SetMetrics(
                [each.relabelled(f"{prefix}/{each.label}", Watch(str(each.component), lacking)) for each in chosen],
                advantage and advantage.fresh(),
            )
            for prefix in (prefixes if chosen else ())
        }
        return cls(by_set, fields)

    @property
    def passes(self) -> frozenset[str]:
        """What the models must say of the completions; nothing if the metrics read rollouts alone."""
        return self.fields & OF_A_PASS

    @property
    def all(self) -> list[BoundMetric]:
        """The instances of all sets."""
        return [metric for of_set in self.by_set.values() for metric in of_set.metrics]

    def advantage_parts(self) -> list[StatefulPart]:
        """Return the advantages, which may keep state."""
        found = {prefix: each.advantage for prefix, each in self.by_set.items()}
        return [
            StatefulPart(f"advantage/{prefix}/{its.component.name}", its.component, its.call)
            for prefix, its in found.items()
            if its is not None
        ]


def chosen_metrics(selection: Selection, run_file: RunFile) -> list[BoundMetric]:
    """Return the metrics of a run that also run on held-out completions, after the pre-flight.

    Raises:
        RunFileError: `evaluation.metrics` names one that the run does not have, or that cannot run there.
    """
    table = run_file.evaluation
    if not table.every_steps or table.metrics is False:
        return []
    asked = table.metrics if isinstance(table.metrics, list) else []
    labels = [metric.label for metric in selection.metrics]
    for name in asked:
        if name not in labels:
            found = f"The metrics of the run are {printable(', '.join(labels))}." if labels else "The run has no metrics."
            raise RunFileError(
                f"evaluation.metrics names {shown(name)}, which is no metric of the run.{did_you_mean(name, labels)} "
                f"{found} The keys metrics and [[metric]] choose them."
            )
    wanted = [metric for metric in selection.metrics if table.metrics is True or metric.label in asked]
    chosen = []
    for metric in wanted:
        reason = _why_not(metric, selection, table)
        if not reason:
            chosen.append(metric)
        elif asked:
            raise RunFileError(f"evaluation.metrics names {shown(metric.label)}, which cannot run there: {reason}")
        else:
            logger.debug("%s does not run on held-out completions: %s", metric.component, reason)
    return chosen


def fields_of(metric: BoundMetric) -> frozenset[str]:
    """Return the fields of its inputs that a metric reads, as far as anybody knows."""
    # What it reads without asking for it is None.
    return metric.component.needs | (GIVEN_TO_METRICS if metric.reads is None else metric.reads & GIVEN_TO_METRICS)


def _why_not(metric: BoundMetric, selection: Selection, table: EvaluationTable) -> str:
    """Return why a metric cannot run on held-out completions, or nothing."""
    facts, of_updates = metric.component.facts, metric.component.needs & OF_UPDATES
    if metric.failures >= FAILURES_ALLOWED:
        return "it failed in the pre-flight."
    if isinstance(facts, MetricFacts) and not facts.evaluation:
        return "its author says that it tells nothing of them (@metric(evaluation=False))."
    if of_updates:
        return f"it needs {_listed(of_updates)}, which only an update has."
    if metric.label in table.sets:
        return (
            f"a set has its name, and {PREFIX}/{metric.label}/ is where the set's numbers are. Rename evaluation.sets."
            f"{metric.label}."
        )
    lacks = _why_no_advantages(selection.advantage, table) if "advantages" in fields_of(metric) else ""
    return f"it reads advantages, and there are none: {lacks}" if lacks else ""


def _why_no_advantages(advantage: BoundAdvantage, table: EvaluationTable) -> str:
    facts = advantage.component.facts
    assert isinstance(facts, AdvantageFacts)
    fewest = max(2, facts.min_rollouts_per_example)
    if advantage.needs:
        return f"{advantage.component} needs {_listed(advantage.needs)}, which an evaluation does not compute."
    if table.rollouts_per_example < fewest:
        return (
            f"an advantage compares completions of an example, and evaluation.rollouts_per_example is "
            f"{table.rollouts_per_example}; it takes {fewest}."
        )
    return ""


def _listed(names: Collection[str]) -> str:
    return " and ".join(sorted(names))
