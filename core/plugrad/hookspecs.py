"""The hooks: what plugrad calls, and what an extension can do there. Each docstring says when, what core does, and that.

Core implements every computing hook once. An extension wraps it (`@plugrad.hookimpl(wrapper=True)`) and returns what it was
given, changed or not. Order comes from the run file: the extension listed first changes the inputs first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
    from plugrad.contracts.loss import BatchLossInputs, LossOutputs, SelectedLoss
    from plugrad.contracts.measures import Measure
    from plugrad.contracts.metric import MetricInputs
    from plugrad.run import Run

hookspec = pluggy.HookspecMarker("plugrad")
hookimpl = pluggy.HookimplMarker("plugrad")
"""Marks a method of an extension as the implementation of the hook of its name."""

COMPUTING_HOOKS = frozenset({"prepare_advantages", "compute_advantages", "prepare_loss", "compute_loss", "compute_metrics"})


def hook_names() -> list[str]:
    """Return the name of every hook."""
    return [name for name, value in globals().items() if hasattr(value, "plugrad_spec")]


@hookspec(firstresult=True)
def prepare_advantages(inputs: AdvantageInputs) -> AdvantageInputs:
    """The last word on rewards before they become advantages.

    When: once per batch of rollouts, before the advantage.
    Core: returns `inputs`.
    Extension: change the rewards, such as for a penalty on length. The rollouts are then copied with the new rewards.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_advantages(inputs: AdvantageInputs) -> AdvantageOutputs:
    """Rewards into advantages.

    When: once per batch of rollouts.
    Core: calls the selected advantage and checks what it returns.
    Extension: time it, check it, replace its result.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def prepare_loss(component: SelectedLoss, inputs: BatchLossInputs) -> BatchLossInputs:
    """What a loss is given; `component` is the loss, with its `name`, `label`, `weight` and `reduction`.

    When: once per micro-batch and selected loss, before the loss.
    Core: returns `inputs`.
    Extension: drop tokens from `loss_mask`, or change fields, as to correct for a mismatch of engine and trainer. A dropped
        token contributes zero; the denominators of the objective were counted before and stay.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_loss(component: SelectedLoss, inputs: BatchLossInputs) -> LossOutputs:
    """Inputs into losses; the result is in batch form, `[batch, seq]` or `[batch]`.

    When: once per micro-batch and selected loss.
    Core: calls the loss and checks what it returns.
    Extension: time it, check it, replace its result.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_metrics(inputs: MetricInputs) -> Mapping[str, Measure]:
    """Measures by name, for `metrics.jsonl`.

    When: once per optimizer batch, after the update.
    Core: calls every metric, each isolated from the others.
    Extension: add your own to the result.
    """
    raise NotImplementedError


@hookspec
def before_update(grad_norm: float, loss: float) -> bool | None:
    """The last word on an update; all ranks see the same numbers, and one that says no says it for all.

    When: once per optimizer batch, after the gradient is clipped and before the optimizer's step.
    Core: returns True.
    Extension: return False to skip the update. `grad_norm` is the norm before clipping.
    """
    raise NotImplementedError


@hookspec
def on_run_start(run: Run) -> None:
    """The run begins; `run` has its `run_file`, `folder` and `num_processes`.

    When: once on every rank, after the models are loaded and before the first rollout.
    Core: does nothing.
    Extension: open what it writes to.
    """
    raise NotImplementedError


@hookspec
def on_step_end(step: int, measures: Mapping[str, float]) -> None:
    """A step is done; steps are counted from 1.

    When: after each step, on every rank, with the numbers that went into `metrics.jsonl`.
    Core: does nothing.
    Extension: report or plot them.
    """
    raise NotImplementedError


@hookspec
def on_run_end(run: Run) -> None:
    """The run has ended as it should.

    When: once, after the model is saved.
    Core: does nothing.
    Extension: close what it opened. An error that ends the run before this skips the call.
    """
    raise NotImplementedError
