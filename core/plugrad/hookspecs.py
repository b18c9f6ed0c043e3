"""The hooks: what plugrad calls, and what an extension can do there.

Core implements every computing hook once. An extension wraps it (`@plugrad.hookimpl(wrapper=True)`) and returns the result,
changed or not. The run file sets the order: the extension listed first changes the inputs first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
    from plugrad.contracts.finding import Finding
    from plugrad.contracts.loss import BatchLossInputs, LossOutputs, SelectedLoss
    from plugrad.contracts.measures import Measure
    from plugrad.contracts.metric import MetricInputs
    from plugrad.contracts.run_records import RunRecords
    from plugrad.run import Run

hookspec = pluggy.HookspecMarker("plugrad")
hookimpl = pluggy.HookimplMarker("plugrad")
"""Marks a method of an extension as an implementation of the hook with the same name."""

COMPUTING_HOOKS = frozenset({"prepare_advantages", "compute_advantages", "prepare_loss", "compute_loss", "compute_metrics"})


def hook_names() -> list[str]:
    """Return the name of every hook."""
    return [name for name, value in globals().items() if hasattr(value, "plugrad_spec")]


@hookspec(firstresult=True)
def prepare_advantages(inputs: AdvantageInputs) -> AdvantageInputs:
    """Change rewards before they become advantages.

    When: once per batch of rollouts, before the advantage.
    Core: returns `inputs`.
    Extension: change the rewards, for example to penalise length. Core then copies the rollouts with the new rewards.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_advantages(inputs: AdvantageInputs) -> AdvantageOutputs:
    """Turn rewards into advantages.

    When: once per batch of rollouts.
    Core: calls the selected advantage and checks its result.
    Extension: time it, check it, replace its result.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def prepare_loss(component: SelectedLoss, inputs: BatchLossInputs) -> BatchLossInputs:
    """Change the inputs of a loss. `component` is the loss, with its `name`, `label`, `weight`, `reduction` and `needs`.

    When: once per micro-batch and selected loss, before the loss. For a loss of the whole batch: once per update.
    Core: returns `inputs`.
    Extension: drop tokens from `loss_mask`, or change fields, for example to correct a trainer-engine mismatch. A dropped
        token contributes zero. The denominators of the objective do not change: they are counted before this hook.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_loss(component: SelectedLoss, inputs: BatchLossInputs) -> LossOutputs:
    """Turn inputs into losses. The result is in batch form, `[batch, seq]` or `[batch]`.

    When: once per micro-batch and selected loss. For a loss of the whole batch: once per update.
    Core: calls the loss and checks its result.
    Extension: time it, check it, replace its result.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_metrics(inputs: MetricInputs) -> Mapping[str, Measure]:
    """Return measures by name, for `metrics.jsonl`.

    When: once per optimizer batch, after the update. Not in evaluations: there, core calls the metrics alone.
    Core: calls every metric. A metric that fails does not affect the others.
    Extension: add measures to the result.
    """
    raise NotImplementedError


@hookspec
def before_update(grad_norm: float, loss: float) -> bool | None:
    """Decide whether an update happens. All ranks see the same numbers, and one veto skips the update on all of them.

    When: once per optimizer batch, after gradient clipping and before the optimizer step.
    Core: returns True.
    Extension: return False to skip the update. `grad_norm` is the norm before clipping.
    """
    raise NotImplementedError


@hookspec
def on_run_start(run: Run) -> None:
    """React to the start of a run. `run` has its `run_file`, `folder`, `rank` and `num_ranks`. Write only if `run.is_main`.

    When: once on every rank, after the models are loaded and before the first rollout.
    Core: does nothing.
    Extension: open files or connections.
    """
    raise NotImplementedError


@hookspec
def on_step_end(step: int, measures: Mapping[str, float]) -> None:
    """React to the end of a step. Steps are counted from 1.

    When: after each step, on every rank, with the numbers written to `metrics.jsonl`.
    Core: does nothing.
    Extension: report or plot the numbers.
    """
    raise NotImplementedError


@hookspec
def find_in_records(records: RunRecords) -> Sequence[Finding]:
    """Say what went wrong in a run, from its records: its numbers by step, its run file, its plugins and its samples.

    When: in `plugrad diagnose`, and at the end of a run whose reward did not rise; in one process, outside the run, with a
        new instance of the extension.
    Core: does nothing here: its own findings do not depend on extensions.
    Extension: return a `plugrad.Finding` for each thing that is wrong, and none for a healthy run. If it fails, that is
        reported, and the other findings are complete.
    """
    raise NotImplementedError


@hookspec
def on_run_end(run: Run) -> None:
    """React to the normal end of a run.

    When: once on every rank, after the model is saved. An error that ends the run skips this call.
    Core: does nothing.
    Extension: close files or connections.
    """
    raise NotImplementedError
