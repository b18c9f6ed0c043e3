"""Call a loss on the fields that it needs, and check its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from plugrad.config.tables.own_optimizer_table import OwnOptimizerTable
from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import LossFacts, Reduction
from plugrad.contracts.model_sizes import ModelSizes
from plugrad.contracts.needs import LOSS_NEEDS, NOT_OF_WHOLE_BATCHES, TeacherDivergence
from plugrad.contracts.where import Where
from plugrad.contracts.wrong_needs import passes_wrong
from plugrad.errors import ContractError, PluginError
from plugrad.host.calling import call_plugin, call_with_inputs
from plugrad.host.further_passes import counted, of_rows
from plugrad.host.loss_outputs import check_gradient, check_outputs
from plugrad.host.no_backward import NoBackward
from plugrad.host.own_parameters import check_owns_no_parameters
from plugrad.host.sequence_adapter import PerSequence
from plugrad.host.trained_module import has_trained, make_module, parameters_of_loss
from plugrad.registry.bind import Component


@dataclass(frozen=True)
class BoundLoss:
    """A selected loss: what to call, and its place in the objective. Hooks see it as a `SelectedLoss`."""

    component: Component
    instance: Any
    """The author's own function, with its options bound, or object."""
    call: Callable[[BatchLossInputs], Any]
    """Takes a micro-batch, even if the loss itself takes a sequence."""
    label: str
    """Its name in this run. Two uses of one loss have different labels."""
    weight: float
    reduction: Reduction
    where: Where | None = None
    """The examples that it counts; None for all."""
    optimizer: OwnOptimizerTable | None = None
    """How its own parameters are updated, where the run file says so."""

    @property
    def name(self) -> str:
        """The name of the loss."""
        return self.component.name

    @property
    def facts(self) -> LossFacts:
        """What its marker states."""
        return cast(LossFacts, self.component.facts)

    @property
    def needs(self) -> frozenset[str]:
        """The optional fields that it reads."""
        return self.component.needs

    @property
    def passes(self) -> int:
        """The number of passes through the policy, with these options."""
        return self.facts.passes if "again" in self.needs else 1

    @property
    def divergence(self) -> TeacherDivergence | None:
        """The divergence from its teacher that it reads."""
        return self.component.divergence

    @classmethod
    def create(
        cls,
        component: Component,
        *,
        label: str,
        weight: float,
        reduction: Reduction,
        where: Where | None = None,
        optimizer: OwnOptimizerTable | None = None,
    ) -> BoundLoss:
        """Create an instance of the component with its place in the objective.

        Raises:
            PluginError: it cannot be created, has parameters that its `trained` does not make, or cannot see a whole batch
                or have further passes though it asks for them.
        """
        _check_whole_batch(component)
        _check_passes(component)
        instance = component.create()
        check_owns_no_parameters(str(component), instance, has_trained(component, instance))
        return cls(component, instance, _in_batch_form(component, instance), label, weight, reduction, where, optimizer)

    def fresh(self) -> BoundLoss:
        """Return the same loss with a new instance. A class starts without state."""
        return BoundLoss.create(
            self.component,
            label=self.label,
            weight=self.weight,
            reduction=self.reduction,
            where=self.where,
            optimizer=self.optimizer,
        )

    @property
    def trains(self) -> bool:
        """Whether it has parameters of its own."""
        return has_trained(self.component, self.instance)

    def trained(self, sizes: ModelSizes, seed: int) -> nn.Module:
        """Let the loss make the module whose parameters it trains, with random numbers from this seed.

        Raises:
            ContractError: it raised, or made something that cannot be trained.
        """
        return make_module(self.component, self.instance, sizes, seed)

    @property
    def learns_of_updates(self) -> bool:
        """Whether it has a method `after_update`."""
        return hasattr(self.instance, "after_update")

    def after_update(self, measures: Mapping[str, float]) -> None:
        """Tell the loss what an update measured, if it has a method `after_update`.

        Raises:
            ContractError: the loss raised.
        """
        if self.learns_of_updates:
            call_plugin(f"{self.component} in its after_update", self.instance.after_update, dict(measures))

    def view(self, inputs: BatchLossInputs) -> BatchLossInputs:
        """Return the inputs without the optional fields that this loss does not need, and with its parameters alone."""
        hidden: dict[str, Any] = dict.fromkeys(LOSS_NEEDS - self.needs)
        if "again" in hidden:
            hidden["sensitivity"] = None
        parameters = parameters_of_loss(inputs.parameters, self.label) if self.trains else None
        return replace(inputs, **hidden, parameters=parameters)


def _check_whole_batch(component: Component) -> None:
    facts = cast(LossFacts, component.facts)
    if not facts.whole_batch:
        return
    if component.form != "batch":
        raise PluginError(
            f"{component} declares whole_batch and takes one sequence (LossInputs). A loss that mixes sequences takes all "
            "of them: annotate its argument with BatchLossInputs, or drop whole_batch."
        )
    wide = sorted(component.needs & NOT_OF_WHOLE_BATCHES)
    if wide:
        raise PluginError(
            f"{component} declares whole_batch and needs {' and '.join(wide)}, which never exist for a whole batch. Pool "
            "first: `embedding` is the last hidden state of a sequence. Or declare cut_dependent instead of whole_batch."
        )


def _check_passes(component: Component) -> None:
    if "again" not in component.needs:
        return
    facts = cast(LossFacts, component.facts)
    wrong = passes_wrong(facts.passes, component.needs, whole_batch=facts.whole_batch)
    if wrong:
        raise PluginError(f"{component}: @loss({wrong}")
    if component.form != "batch":
        raise PluginError(
            f"{component} needs again and takes one sequence (LossInputs). A pass through the policy is one of a whole "
            "micro-batch: annotate its argument with BatchLossInputs."
        )


def num_passes(losses: Sequence[BoundLoss]) -> int:
    """Return how many passes with gradient the policy makes for each micro-batch: all losses share the first."""
    return 1 + sum(loss.passes - 1 for loss in losses)


def _in_batch_form(component: Component, instance: Any) -> Callable[[BatchLossInputs], Any]:
    if component.form == "batch":
        return cast(Callable[[BatchLossInputs], Any], instance)
    return PerSequence(instance, str(component), has_state=inspect.isclass(component.target))


def compute_loss(loss: BoundLoss, inputs: BatchLossInputs) -> LossOutputs:
    """Call the loss on a micro-batch, and return losses of shape `[batch]` or `[batch, seq]`.

    Raises:
        ContractError: the loss raised, changed its inputs, called backward(), or returned anything else or a loss without
            gradient.
    """
    owner = str(loss.component)
    inputs = counted(owner, inputs, loss.passes)
    with NoBackward(owner, inputs):
        outputs = call_with_inputs(owner, loss.call, inputs)
    check_batch_outputs(owner, outputs, inputs)
    return cast(LossOutputs, outputs)


def check_batch_outputs(owner: str, outputs: object, inputs: BatchLossInputs) -> None:
    """Raise ContractError unless these are losses of a micro-batch, `[batch]` or `[batch, seq]`, on the inputs' device."""
    check_outputs(owner, outputs, inputs)
    assert isinstance(outputs, LossOutputs)
    check_gradient(owner, outputs, inputs)
    batch, seq = inputs.loss_mask.shape
    if outputs.loss.ndim == 0:
        raise ContractError(
            f"{owner} takes BatchLossInputs and returned a scalar.",
            why="The denominator behind a scalar would depend on how the batch was cut.",
            fix=f"Return one loss per token [{batch}, {seq}] or per sequence [{batch}]; the run file's `reduction` divides.",
        )
    if outputs.loss.shape not in (torch.Size((batch, seq)), torch.Size((batch,))):
        raise ContractError(
            f"{owner} returned a loss of shape {tuple(outputs.loss.shape)}; for this micro-batch it must be "
            f"[{batch}, {seq}] (per token) or [{batch}] (per sequence)."
        )


def sum_rows(outputs: LossOutputs, loss_mask: Tensor) -> Tensor:
    """Return the loss of each row `[batch]`: for a per-token loss, the sum over the row's counted tokens."""
    if outputs.loss.ndim == 1:
        return outputs.loss
    return torch.where(loss_mask, outputs.loss, 0.0).sum(dim=1)


def without_empty_rows(inputs: BatchLossInputs) -> tuple[BatchLossInputs | None, Tensor]:
    """Return the rows with at least one counted token (None if there are none), and a mask of these rows `[batch]`."""
    kept = inputs.loss_mask.any(dim=1)
    return (keep_rows(inputs, kept) if bool(kept.any()) else None), kept


def keep_rows(inputs: BatchLossInputs, kept: Tensor) -> BatchLossInputs:
    """Return the rows where `kept` [batch] is True."""
    chosen = kept.nonzero().squeeze(1)
    values: dict[str, Any] = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    selected: dict[str, Any] = {name: value[chosen] for name, value in values.items() if isinstance(value, Tensor)}
    metadata = inputs.metadata and [inputs.metadata[row] for row in chosen.tolist()]
    return replace(of_rows(inputs, chosen), metadata=metadata, **selected)
