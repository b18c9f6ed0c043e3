"""Check that the run file names the models whose numbers its components read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from plugrad.config.run_file import RunFile
from plugrad.contracts.advantage import AdvantageOutputs
from plugrad.contracts.needs import OF_CRITIC, OF_TEACHER
from plugrad.errors import ContractError, RunFileError
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.bound_optimizer import BoundOptimizer
from plugrad.host.loss import BoundLoss
from plugrad.host.metric import BoundMetric
from plugrad.host.replayed_completions import check_replayed
from plugrad.registry.bind import Component

logger = logging.getLogger("plugrad")

TRAINED = frozenset({"values"})


class Selection(Protocol):
    """The components of a run, of which it takes what reads numbers of models."""

    @property
    def advantage(self) -> BoundAdvantage:
        """The advantage."""
        ...

    @property
    def losses(self) -> Sequence[BoundLoss]:
        """The losses."""
        ...

    @property
    def metrics(self) -> Sequence[BoundMetric]:
        """The metrics."""
        ...

    @property
    def optimizer(self) -> BoundOptimizer:
        """The optimizer."""
        ...


def check_provided(selection: Selection, run_file: RunFile) -> None:
    """Check the teacher, the critic, the engine and the optimizers of losses against what the selected components need.

    Raises:
        RunFileError: a component needs numbers of a model that the run file does not have, a loss needs completions that are
            replayed, or the run file has an optimizer for parameters that a loss does not have.
    """
    _check_teacher(selection, run_file)
    _check_critic(selection, run_file)
    _check_own_optimizers(selection.losses)
    _check_decays(selection, run_file)
    check_replayed(selection.losses, run_file.rollout.engine_kind)


def check_returns_given(selection: Selection, outputs: AdvantageOutputs) -> None:
    """Check that the advantage returned the returns that losses read.

    Raises:
        ContractError: it did not.
    """
    wanting = next(_needing(selection, "returns"), None)
    if wanting and outputs.returns is None:
        raise ContractError(
            f"{wanting} needs returns, and {selection.advantage.component} gives none. Choose an advantage that does, such "
            "as a generalised advantage estimate, or return AdvantageOutputs(advantages, returns=...)."
        )


def _check_teacher(selection: Selection, run_file: RunFile) -> None:
    wanting = {need: next(_needing(selection, need), None) for need in OF_TEACHER}
    asked = [(need, component) for need, component in wanting.items() if component]
    if run_file.model.all_teachers:
        if not asked:
            logger.warning(
                "The model of [model.teacher] is not loaded: nothing needs %s. If a loss reads one of them, mark it, for "
                'instance with @loss(needs={"teacher_logprobs"}).',
                " or ".join(OF_TEACHER),
            )
        return
    for need, component in asked:
        raise RunFileError(
            f"{component} needs {need}, and the run file has no teacher. "
            'Add [model.teacher] with name = "a hub id or folder", or change the option that requires it.'
        )


def _check_critic(selection: Selection, run_file: RunFile) -> None:
    for need in OF_CRITIC:
        wanting = next(_needing(selection, need), None)
        if wanting and run_file.critic is None:
            raise RunFileError(
                f"{wanting} needs {need}, and the run file has no critic. Add a table [critic], which may be empty, or "
                "change the option that requires it."
            )
    if run_file.critic is None:
        return
    if not any(loss.needs & TRAINED for loss in selection.losses):
        reader = next(_needing(selection, "values"), None)
        logger.warning(
            "No loss trains the critic: none needs values. Add a [[loss]] that does, such as a value loss%s.",
            f"; {reader} reads values that stay 0" if reader else ", or leave [critic] out",
        )


def _check_own_optimizers(losses: Sequence[BoundLoss]) -> None:
    for loss in losses:
        if loss.optimizer is not None and not loss.trains:
            raise RunFileError(
                f"the run file has [loss.optimizer] for {loss.component}, which has no parameters of its own. Remove the "
                "table; the policy's learning rate is optimizer.lr."
            )


def _check_decays(selection: Selection, run_file: RunFile) -> None:
    decays = {f"optimizer.groups.{place}": group.weight_decay for place, group in enumerate(run_file.optimizer.groups)}
    tables = {f"[loss.optimizer] of {loss.label}": loss.optimizer for loss in selection.losses}
    decays |= {where: table.weight_decay for where, table in tables.items() if table}
    asking = next((where for where, decay in decays.items() if decay), None)
    optimizer = selection.optimizer
    if asking and not (optimizer.takes_decay and optimizer.usual.takes_decay):
        raise RunFileError(f"{asking} has weight_decay, and {optimizer.component} takes none. Leave it out.")


def _needing(selection: Selection, need: str) -> Iterator[Component]:
    """Yield the components that need a field, in the order of the run file."""
    of_run = [selection.advantage.component, *(loss.component for loss in selection.losses)]
    of_run += [metric.component for metric in selection.metrics if metric.is_listed]
    yield from (component for component in of_run if need in component.needs)
