"""Select the components of a run file: resolve, load and bind them, and check them against the rest of the run file."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from plugrad.config.run_file import RunFile
from plugrad.config.tables.component_tables import ComponentTable
from plugrad.config.tables.evaluation_table import EvaluationTable
from plugrad.contracts.markers import AdvantageFacts, LossFacts
from plugrad.contracts.needs import OF_CRITIC, SCORES
from plugrad.contracts.where import Where
from plugrad.errors import PlugradError, RunFileError
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.bound_optimizer import BoundOptimizer, bound_optimizer
from plugrad.host.environment import of_set
from plugrad.host.labels import labels_of
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss
from plugrad.host.metric import BoundMetric
from plugrad.host.process_state import StateKept
from plugrad.host.provided import check_provided
from plugrad.host.time_limit import time_limit, waiting_notice
from plugrad.registry.bind import Component
from plugrad.registry.disable import without
from plugrad.registry.left_threads import leaving_no_thread
from plugrad.registry.scan import Catalogue, Kind, scan

logger = logging.getLogger("plugrad")

OF_REWARDS = frozenset({"reward", "returns"})
"""What a loss reads of rewards, beside advantages."""

T = TypeVar("T", bound=ComponentTable)


@dataclass(frozen=True)
class Selection:
    """The components of a run. Each holds the one instance that runs; `fresh()` creates another."""

    environment: Component
    advantage: BoundAdvantage
    losses: list[BoundLoss]
    metrics: list[BoundMetric]
    extensions: list[Component]
    optimizer: BoundOptimizer
    of_sets: dict[str, Component] = field(default_factory=dict)
    """The environments of held-out sets that have one of their own, by the name of the set."""

    @property
    def loss_needs(self) -> frozenset[str]:
        """The optional fields that any loss needs."""
        return frozenset().union(*(loss.needs for loss in self.losses))

    @property
    def needs(self) -> frozenset[str]:
        """The optional fields that any loss or metric needs."""
        return self.loss_needs.union(*(metric.component.needs for metric in self.metrics))

    @property
    def scores_first(self) -> frozenset[str]:
        """The fields of `AdvantageInputs` that models compute of all rollouts, before the advantage is called."""
        first = self.advantage.needs & SCORES
        # What a loss calls old values are the values of this pass.
        return first | {"values"} if "old_values" in self.needs else first

    @property
    def learns_from_rewards(self) -> bool:
        """Whether equal rewards leave the run nothing to learn: every loss follows advantages, rewards or returns."""
        assert isinstance(self.advantage.component.facts, AdvantageFacts)
        follows = (loss.facts.policy_gradient is not False or loss.needs & OF_REWARDS for loss in self.losses)
        return not self.advantage.component.facts.signal_from_equal_rewards and all(follows)

    def components(self) -> Iterator[Component]:
        """Yield every component of the training, in the order of the run file."""
        yield self.environment
        yield self.advantage.component
        yield from (loss.component for loss in self.losses)
        yield from (metric.component for metric in self.metrics)
        yield from self.extensions
        yield self.optimizer.component


def select(run_file: RunFile) -> Selection:
    """Resolve, load and bind everything that the run file names.

    Raises:
        PluginError: a component cannot be found or imported.
        OptionError: a component does not take its options.
        RunFileError: the run file lacks something that a component needs, or `plugins.disable` has an unknown kind.
    """
    loader = _Loader(without(scan(refused_folders=run_file.folders), run_file.plugins.disable), run_file)
    losses = _losses(loader)
    advantage = loader.load("advantage", run_file.selected_advantage)
    for component in (advantage, *(loss.component for loss in losses)):
        _check_rollouts_per_example(component, run_file)
    selection = Selection(
        environment=loader.load("environment", run_file.environment),
        advantage=BoundAdvantage(advantage, advantage.create()),
        losses=losses,
        metrics=_metrics(loader, losses),
        extensions=[loader.load("extension", table) for table in run_file.extension],
        of_sets=_of_sets(loader),
        optimizer=bound_optimizer(run_file.optimizer, run_file.folders),
    )
    check_provided(selection, run_file)
    return selection


def resolved(run_file: RunFile, selection: Selection) -> RunFile:
    """Return the run file with absolute references, and with every option and reduction filled in."""
    metrics = zip(run_file.metric, selection.metrics, strict=False)
    return run_file.model_copy(
        update={
            "environment": _filled(run_file.environment, selection.environment),
            "advantage": _filled(run_file.selected_advantage, selection.advantage.component),
            "loss": [
                _filled(table, loss.component).model_copy(update={"reduction": loss.reduction})
                for table, loss in zip(run_file.loss, selection.losses, strict=True)
            ],
            # Metrics with tables come first. The others have no options.
            "metric": [_filled(table, metric.component) for table, metric in metrics],
            "extension": [_filled(*pair) for pair in zip(run_file.extension, selection.extensions, strict=True)],
            "evaluation": _filled_sets(run_file.evaluation, selection.of_sets),
            "optimizer": selection.optimizer.filled(run_file.optimizer),
        }
    )


def _filled_sets(table: EvaluationTable, of_sets: Mapping[str, Component]) -> EvaluationTable:
    filled = {
        name: each.model_copy(update={"environment": _filled(each.environment, of_sets[name])})
        if each.environment is not None and name in of_sets
        else each
        for name, each in table.sets.items()
    }
    return table.model_copy(update={"sets": filled})


@dataclass(frozen=True)
class _Loader:
    catalogue: Catalogue
    run_file: RunFile

    def load(self, kind: Kind, table: ComponentTable) -> Component:
        asked = f"the {kind} {table.name!r}"
        with StateKept(asked), waiting_notice(f"{asked} to be imported"):
            component = load_component(kind, table.name, table.kwargs, self.catalogue, self.run_file.folders)
        # Before a model loads: an option that the resolved run file could not repeat is refused.
        _ = component.forms
        return component


def _of_sets(loader: _Loader) -> dict[str, Component]:
    table, found = loader.run_file.evaluation, {}
    for name, each in table.sets.items() if table.every_steps else ():
        if each.environment is not None:
            with of_set(name):
                found[name] = loader.load("environment", each.environment)
    return found


def _losses(loader: _Loader) -> list[BoundLoss]:
    tables = loader.run_file.loss
    components = [loader.load("loss", table) for table in tables]
    bound = []
    for table, component, label in zip(tables, components, labels_of([c.name for c in components]), strict=True):
        assert isinstance(component.facts, LossFacts)
        reduction = table.reduction or component.facts.reduction
        where = Where.of(table.where) if table.where else None
        place: dict[str, Any] = {"weight": table.weight, "reduction": reduction, "where": where}
        bound.append(BoundLoss.create(component, label=label, optimizer=table.optimizer, **place))
    return bound


def _metrics(loader: _Loader, losses: list[BoundLoss]) -> list[BoundMetric]:
    run_file = loader.run_file
    asked_for = [loader.load("metric", table) for table in run_file.metric]
    if run_file.metrics != "all":
        listed = run_file.metrics
        asked_for += [load_component("metric", name, {}, loader.catalogue, run_file.folders) for name in listed]
    made = [(component, component.create()) for component in asked_for]
    if run_file.metrics == "all":
        made += _installed_metrics(loader, losses, but={component.source.target for component in asked_for})
    labels = labels_of([component.name for component, _ in made])
    return [
        BoundMetric(component, call, label, is_listed=component in asked_for)
        for (component, call), label in zip(made, labels, strict=True)
    ]


def _installed_metrics(loader: _Loader, losses: list[BoundLoss], but: Collection[str]) -> Iterator[tuple[Component, Any]]:
    """Create the installed metrics whose target is not in `but`, except those that fail or cost a forward pass."""
    for entry in loader.catalogue.of_kind("metric"):
        if entry.target in but:
            continue
        try:
            with _nothing_left_behind(f"the metric {entry.name!r} ({entry.owner})", loader.run_file.preflight_timeout_s):
                reference = f"{entry.package}/{entry.name}"
                component = load_component("metric", reference, {}, loader.catalogue, loader.run_file.folders)
                made = component.create() if _is_free(component, losses, loader.run_file) else None
        except PlugradError as error:
            logger.warning("Skipping a metric: %s", error)
            continue
        if made is not None:
            yield component, made


@contextmanager
def _nothing_left_behind(owner: str, limit_s: float) -> Iterator[None]:
    """Import and create what nobody asked for: it may not hang, change the process, or leave threads."""
    remedy = "If it is only slow the first time, raise preflight_timeout_s."
    with leaving_no_thread(owner), StateKept(owner), time_limit(limit_s, owner, remedy):
        yield


def _is_free(metric: Component, losses: list[BoundLoss], run_file: RunFile) -> bool:
    """Return whether the metric needs no forward pass beyond those of the losses."""
    provided = {"entropy"}.union(*(loss.needs for loss in losses))
    if run_file.updates_per_batch == 1:
        provided.add("old_logprobs")
    lacking = sorted(metric.needs - provided)
    # Nobody who trains no critic wonders where its metrics are.
    if lacking and not (run_file.critic is None and metric.needs & set(OF_CRITIC)):
        logger.info(
            "Skipping %s: it needs %s, which no loss needs and which would cost a forward pass. "
            "List it under `metrics` to run it anyway.",
            metric,
            ", ".join(lacking),
        )
    return not lacking


def _check_rollouts_per_example(component: Component, run_file: RunFile) -> None:
    assert isinstance(component.facts, AdvantageFacts | LossFacts)
    fewest = component.facts.min_rollouts_per_example
    if run_file.rollout.rollouts_per_example < fewest:
        raise RunFileError(
            f"{component} needs at least {fewest} rollouts per example, and rollout.rollouts_per_example is "
            f"{run_file.rollout.rollouts_per_example}. Raise it, or choose another {component.kind}."
        )


def _filled(table: T, component: Component) -> T:
    return table.model_copy(update={"name": component.source.reference, "kwargs": dict(component.forms)})
