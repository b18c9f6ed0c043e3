"""A loss on trial: the value and gradient of each sequence of a micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import LossFacts
from plugrad.contracts.measures import Measure, as_measure
from plugrad.contracts.model_sizes import ModelSizes
from plugrad.host.calling import no_gradient
from plugrad.host.loss import BoundLoss, compute_loss, sum_rows
from plugrad.host.made_up import HIDDEN, VOCABULARY, with_made_up_outputs
from plugrad.host.synthetic import map_tensors
from plugrad.host.trained_module import trial_parameters
from plugrad.host.trial import random_state_of
from plugrad.registry.bind import Component
from plugrad.testing.checks import NotApplicable
from plugrad.testing.numbers import TOLERANCE, Numbers, compare_numbers

SENSED = ("trainer_logprobs", "entropy")
MOVED = 0.1
"""Standard deviation of what is added to the starting values of a loss's parameters."""


@dataclass(frozen=True)
class Row:
    """The loss of one sequence."""

    value: float
    gradient: list[float]
    """With respect to the log-probs, then the entropies, of its counted tokens."""


@dataclass(frozen=True)
class LossTrial:
    """A loss on trial."""

    component: Component
    failures: dict[torch.dtype, Any] = field(default_factory=dict, compare=False)
    """What is known of ordinary numbers by dtype: see `ordinary.not_finite`."""

    @cached_property
    def facts(self) -> LossFacts:
        """What its marker declares."""
        assert isinstance(self.component.facts, LossFacts)
        return self.component.facts

    def fresh(self) -> BoundLoss:
        """Return a new instance, as a run binds it."""
        return BoundLoss.create(self.component, label=self.component.name, weight=1.0, reduction=self.facts.reduction)

    def outputs(self, inputs: BatchLossInputs, loss: BoundLoss | None = None, seed: int = 0) -> LossOutputs:
        """Call it as the host does. Its random numbers come from this seed."""
        bound = loss or self.fresh()
        with random_state_of(seed):
            return compute_loss(bound, view(bound, inputs))

    def measures(self, inputs: BatchLossInputs, loss: BoundLoss | None = None) -> dict[str, Measure]:
        """Return its metrics for a micro-batch, as measures."""
        try:
            metrics = self.outputs(inputs, loss).metrics.items()
            sequences = len(inputs.loss_mask)
            # None is no number of these sequences.
            return {name: as_measure(value, sequences) for name, value in metrics if value is not None}
        except TypeError as error:
            raise NotApplicable("one of its metrics is invalid: see metrics") from error

    def rows(self, inputs: BatchLossInputs, loss: BoundLoss | None = None, seed: int = 0) -> list[Row]:
        """Return the value and gradient of each sequence."""
        values, gradients = self.values_and_gradients(inputs, loss, seed)
        mask = inputs.loss_mask
        counted = [torch.cat([g[row][mask[row]] for g in gradients]).tolist() for row in range(len(mask))]
        return [Row(value, gradient) for value, gradient in zip(values.tolist(), counted, strict=True)]

    def values_and_gradients(
        self, inputs: BatchLossInputs, loss: BoundLoss | None = None, seed: int = 0
    ) -> tuple[Tensor, list[Tensor]]:
        """Return each row's value, and the gradients of their sum with respect to all log-probs and entropies."""
        assert inputs.entropy is not None
        leaves = [inputs.trainer_logprobs.clone().requires_grad_(), inputs.entropy.clone().requires_grad_()]
        # As in a run, these are results of a computation: PyTorch itself refuses to change leaves in place.
        logprobs, entropy = (leaf.clone() for leaf in leaves)
        outputs = self.outputs(replace(inputs, trainer_logprobs=logprobs, entropy=entropy), loss, seed)
        values = sum_rows(outputs, inputs.loss_mask)
        return values.detach(), gradients_of(values.sum(), leaves, str(self.component))


def view(bound: BoundLoss, inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the inputs with only the fields that a loss needs, and those that a model would give made up.

    The parameters of a loss with its own are those of the inputs, or made for the trial.
    """
    if bound.passes > 1:
        # A sensitivity is a gradient, and passes are those of these very log-probs.
        inputs = map_tensors(inputs, lambda name, value: _with_gradient(value) if name in SENSED else value)
    lacking = {need for need in bound.needs if need == "again" or getattr(inputs, need, None) is None}
    seen = bound.view(with_made_up_outputs(inputs, lacking))
    if not bound.trains:
        return seen
    return replace(seen, parameters=inputs.parameters or made_parameters(bound, inputs.trainer_logprobs.dtype))


def made_parameters(bound: BoundLoss, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a loss's parameters a little off where they start, for inputs of this dtype.

    A head that starts at zero would hide what lies behind it. The numbers are the same in each dtype, rounded.
    """
    wide, own = (
        trial_parameters(bound.component, bound.instance, ModelSizes(HIDDEN, VOCABULARY, sizes_dtype))
        for sizes_dtype in (torch.double, torch.promote_types(dtype, torch.float32))
    )
    generator = torch.Generator().manual_seed(0)
    return {
        name: (value.detach() + MOVED * torch.randn(value.shape, generator=generator, dtype=value.dtype))
        .to(own[name].dtype)
        .requires_grad_(value.requires_grad)
        for name, value in wide.items()
    }


def _with_gradient(value: Tensor) -> Tensor:
    return value if value.requires_grad else value.clone().requires_grad_()


def gradients_of(total: Tensor, leaves: Sequence[Tensor], owner: str = "the loss") -> list[Tensor]:
    """Return the gradient of `total` with respect to each leaf; zero if it does not depend on it.

    Raises:
        ContractError: it cannot be computed.
    """
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    try:
        found = torch.autograd.grad(total, list(leaves), allow_unused=True)
    except RuntimeError as error:
        raise no_gradient(owner, error) from error
    return [torch.zeros_like(leaf) if grad is None else grad for grad, leaf in zip(found, leaves, strict=True)]


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype, such as `float32`."""
    return str(dtype).removeprefix("torch.")


def compare_rows(found: Sequence[Row], expected: Sequence[Row], change: str, tolerance: float = TOLERANCE) -> str:
    """Compare two ways to compute the same rows, and return the largest difference.

    Raises:
        Broken: they differ by more than rounding. The message starts with `change`.
    """
    return compare_numbers(numbers_of(found), numbers_of(expected), change, tolerance)


def numbers_of(rows: Sequence[Row]) -> Numbers:
    """Return the rows' numbers by name: the losses first, then the gradients, which can differ when the losses agree."""
    lengths = [len(row.gradient) // 2 for row in rows]
    names = [f"sequence {index} ({length} counted tokens)" for index, length in enumerate(lengths)]
    losses = {f"the loss of {name}": row.value for name, row in zip(names, rows, strict=True)}
    gradients = {
        f"the gradient with respect to {'log-prob' if slot < length else 'entropy'} {slot % length} of {name}": value
        for name, row, length in zip(names, rows, lengths, strict=True)
        for slot, value in enumerate(row.gradient)
    }
    return losses | gradients
