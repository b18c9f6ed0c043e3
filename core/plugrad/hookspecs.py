"""The hooks: what plugrad calls, and what an extension can do there.

Core implements every computing hook once. An extension wraps it (`@plugrad.hookimpl(wrapper=True)`) and returns what it was
given, changed or not. Order comes from the run file: the extension listed first changes the inputs first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
    from plugrad.contracts.loss import BatchLossInputs, LossOutputs
    from plugrad.contracts.measures import Measure
    from plugrad.contracts.metric import MetricInputs
    from plugrad.host.loss import BoundLoss
    from plugrad.trainer.run import Run

hookspec = pluggy.HookspecMarker("plugrad")
hookimpl = pluggy.HookimplMarker("plugrad")

COMPUTING_HOOKS = frozenset({"prepare_advantages", "compute_advantages", "prepare_loss", "compute_loss", "compute_metrics"})


def hook_names() -> list[str]:
    """Return the name of every hook."""
    return [name for name, value in globals().items() if hasattr(value, "plugrad_spec")]


@hookspec(firstresult=True)
def prepare_advantages(inputs: AdvantageInputs) -> AdvantageInputs:
    """Once per batch of rollouts, before the advantage. Core returns `inputs`; change the rewards here."""
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_advantages(inputs: AdvantageInputs) -> AdvantageOutputs:
    """Once per batch of rollouts. Core calls the selected advantage."""
    raise NotImplementedError


@hookspec(firstresult=True)
def prepare_loss(component: BoundLoss, inputs: BatchLossInputs) -> BatchLossInputs:
    """Once per micro-batch and selected loss, before the loss. Core returns `inputs`.

    A token dropped from `loss_mask` contributes zero; the denominators of the objective were counted before and stay.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_loss(component: BoundLoss, inputs: BatchLossInputs) -> LossOutputs:
    """Once per micro-batch and selected loss. Core calls the loss; the result is in batch form."""
    raise NotImplementedError


@hookspec(firstresult=True)
def compute_metrics(inputs: MetricInputs) -> Mapping[str, Measure]:
    """Once per optimizer batch, after the update. Core calls every metric; add your own to the result."""
    raise NotImplementedError


@hookspec
def before_update(grad_norm: float, loss: float) -> bool | None:
    """Once per optimizer batch, after clipping. Return False to skip the update; all ranks see the same numbers."""
    raise NotImplementedError


@hookspec
def on_run_start(run: Run) -> None:
    """Once, after the models are loaded and before the first rollout."""
    raise NotImplementedError


@hookspec
def on_step_end(step: int, measures: Mapping[str, float]) -> None:
    """After each step, with the numbers that go into `metrics.jsonl`."""
    raise NotImplementedError


@hookspec
def on_run_end(run: Run) -> None:
    """Once, after the model is saved."""
    raise NotImplementedError
