"""Core's implementation of the hooks, and the trainer's interface to them."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import pluggy
import torch

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.measures import Measure, Measures
from plugrad.contracts.metric import MetricInputs
from plugrad.errors import ContractError
from plugrad.hookspecs import hook_names, hookimpl
from plugrad.host.advantage import BoundAdvantage, check_advantages, compute_advantages
from plugrad.host.calling import blaming, check_unchanged, raised_by, refuse_coroutine
from plugrad.host.loss import BoundLoss, check_batch_outputs, compute_loss
from plugrad.host.metric import BoundMetric, compute_metrics
from plugrad.host.no_backward import NoBackward
from plugrad.host.prepared import check_prepared, check_same_shape
from plugrad.host.process_state import StateKept
from plugrad.host.ranges import hook_range
from plugrad.host.received import Received
from plugrad.host.reported import add_metrics
from plugrad.registry.bind import Component
from plugrad.registry.blame import Blamed
from plugrad.registry.manager import build_manager
from plugrad.registry.scan import CORE

if TYPE_CHECKING:
    # A replay has no run: the tables of the run file take a tenth of a second.
    from plugrad.run import Run


@dataclass(frozen=True)
class Host:
    """Core's implementation of the hooks: it calls the bound components. Extensions wrap it."""

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
        """Return True: the update happens."""
        return True


class Hooks:
    """The hooks as the trainer calls them: core's implementation, wrapped by the extensions.

    An error names the extension that raised it or returned a wrong value.
    """

    def __init__(self, host: Host, extensions: Sequence[tuple[Component, Any]]) -> None:
        manager = build_manager(host, extensions)
        self._relay = manager.hook
        names: dict[int, str] = {id(extension): str(component) for component, extension in extensions}
        # The extension that owns a piece of code. Core's code has none.
        self._owners = {_code(impl): names.get(id(impl.plugin)) for _, impl in _implementations(manager)}
        around: dict[str, list[str]] = {hook: [] for hook in hook_names()}
        for hook, impl in _implementations(manager):
            around[hook] += [names[id(impl.plugin)]] if id(impl.plugin) in names else []
        self._around = {hook: " or ".join(owners) or CORE for hook, owners in around.items()}

    def prepare_advantages(self, inputs: AdvantageInputs) -> AdvantageInputs:
        """Return the inputs after the extensions changed them."""
        prepared: AdvantageInputs = self._call("prepare_advantages", AdvantageInputs, inputs=inputs)
        if prepared is not inputs:
            owner = self._around["prepare_advantages"]
            check_same_shape(owner, "rewards", prepared.rewards, inputs.rewards)
            if not bool(torch.isfinite(prepared.rewards).all()):
                raise ContractError(f"{owner}: prepare_advantages returned rewards that are not finite.")
        return prepared

    def compute_advantages(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return the advantages of the whole batch of rollouts."""
        outputs: AdvantageOutputs = self._call("compute_advantages", AdvantageOutputs, inputs=inputs)
        check_advantages(self._around["compute_advantages"], outputs, inputs)
        return outputs

    def prepare_loss(self, component: BoundLoss, inputs: BatchLossInputs) -> BatchLossInputs:
        """Return the inputs of one loss after the extensions changed them."""
        with NoBackward(self._around["prepare_loss"], inputs):
            prepared: BatchLossInputs = self._call("prepare_loss", BatchLossInputs, component=component, inputs=inputs)
        if prepared is not inputs:
            check_same_shape(self._around["prepare_loss"], "loss_mask", prepared.loss_mask, inputs.loss_mask)
        return prepared

    def check_prepared(self, prepared: BatchLossInputs, inputs: BatchLossInputs) -> None:
        """Check that the extensions dropped tokens at most, and left the policy's log-probs their gradient."""
        if prepared is not inputs:
            check_prepared(self._around["prepare_loss"], prepared, inputs)

    def compute_loss(self, component: BoundLoss, inputs: BatchLossInputs) -> LossOutputs:
        """Return the values of one loss, `[batch]` or `[batch, seq]`."""
        with NoBackward(self._around["compute_loss"], inputs):
            outputs: LossOutputs = self._call("compute_loss", LossOutputs, component=component, inputs=inputs)
        check_batch_outputs(self._around["compute_loss"], outputs, inputs)
        return outputs

    def compute_metrics(self, inputs: MetricInputs) -> Measures:
        """Return the measures of the metrics and the extensions."""
        found = self._call("compute_metrics", Mapping, inputs=inputs)
        measures, owner = Measures(), self._around["compute_metrics"]
        with blaming(owner):
            add_metrics(measures, found, len(inputs.rewards), f"{owner} added")
        return measures

    def before_update(self, grad_norm: float, loss: float) -> bool:
        """Return False if an extension vetoes the update."""
        opinions = self._call("before_update", list, grad_norm=grad_norm, loss=loss)
        for opinion in opinions:
            # NumPy's and PyTorch's False are not Python's, so that `is False` would overlook the veto.
            if not isinstance(opinion, bool):
                raise ContractError(
                    f"{self._around['before_update']}: before_update returned {type(opinion).__name__}; return True, False "
                    "or None. bool(...) makes one of an array or tensor."
                )
        return all(opinions)

    def on_run_start(self, run: Run) -> None:
        """Notify the extensions."""
        self._call("on_run_start", list, run=run)

    def on_step_end(self, step: int, measures: Mapping[str, float]) -> None:
        """Notify the extensions."""
        self._call("on_step_end", list, step=step, measures=measures)

    def on_run_end(self, run: Run) -> None:
        """Notify the extensions."""
        self._call("on_run_end", list, run=run)

    def _call(self, hook: str, wanted: type, /, **arguments: Any) -> Any:
        with hook_range(hook):
            return self._checked_call(hook, wanted, **arguments)

    def _checked_call(self, hook: str, wanted: type, /, **arguments: Any) -> Any:
        owner, inputs = self._around[hook], arguments.get("inputs")
        if owner == CORE:
            # No extension is concerned: core's own call checks the component.
            return getattr(self._relay, hook)(**arguments)
        received = None if inputs is None else Received.of(inputs)
        with StateKept(owner), Blamed(owner, lambda error: self._raised(error, hook)):
            returned = getattr(self._relay, hook)(**arguments)
        refuse_coroutine(owner, returned)
        if received is not None:
            check_unchanged(owner, received, inputs)
        if not isinstance(returned, wanted):
            raise ContractError(
                f"{self._around[hook]}: {hook} returned {type(returned).__name__}; it must return {wanted.__name__}. A "
                "wrapper returns the result of its `yield`, changed or not."
            )
        return returned

    def _raised(self, error: BaseException, hook: str) -> ContractError:
        """Return the error that names the extension whose hook raised."""
        frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        known = [code for code in frames if code in self._owners]
        # Without any known frame, pluggy itself raised: a wrapper did not yield exactly once.
        owner = self._owners[known[-1]] if known else self._around[hook]
        if owner is None:
            # A fault of plugrad's own keeps its traceback.
            raise error
        return raised_by(f"{owner} in its {hook}", error)


def _implementations(manager: pluggy.PluginManager) -> Iterator[tuple[str, pluggy.HookImpl]]:
    for hook in hook_names():
        yield from ((hook, implementation) for implementation in getattr(manager.hook, hook).get_hookimpls())


def _code(implementation: pluggy.HookImpl) -> CodeType | None:
    return getattr(inspect.unwrap(implementation.function), "__code__", None)
