"""What a loss gives each sequence of a micro-batch: its value, and its gradient. And how two of these compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import LossFacts
from plugrad.contracts.measures import Measure, as_measure
from plugrad.host.loss import BoundLoss, compute_loss, sum_rows
from plugrad.host.trial import random_state_of
from plugrad.registry.bind import Component
from plugrad.testing.checks import Broken, NotApplicable

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Row:
    """What a loss gives one sequence."""

    value: float
    gradient: list[float]
    """By the log-probs and then by the entropies of its counted tokens."""


@dataclass(frozen=True)
class TriedLoss:
    """A loss on trial."""

    component: Component

    @cached_property
    def facts(self) -> LossFacts:
        """What it states of itself."""
        assert isinstance(self.component.facts, LossFacts)
        return self.component.facts

    def fresh(self) -> BoundLoss:
        """Return a new instance, as a run binds it."""
        return BoundLoss.create(self.component, label=self.component.name, weight=1.0, reduction=self.facts.reduction)

    def outputs(self, inputs: BatchLossInputs, loss: BoundLoss | None = None, seed: int = 0) -> LossOutputs:
        """Call it as the host does; whatever it draws at random, it draws from this seed."""
        bound = loss or self.fresh()
        with random_state_of(seed):
            return compute_loss(bound, bound.view(inputs))

    def measures(self, inputs: BatchLossInputs) -> dict[str, Measure]:
        """Return the metrics that it hands out with a micro-batch, as measures."""
        try:
            metrics = self.outputs(inputs).metrics.items()
            return {name: as_measure(value, num_sequences=len(inputs.loss_mask)) for name, value in metrics}
        except TypeError as error:
            raise NotApplicable("a metric of it is none: see metrics") from error

    def rows(self, inputs: BatchLossInputs, loss: BoundLoss | None = None, seed: int = 0) -> list[Row]:
        """Return what it gives each sequence."""
        values, gradients = self.values_and_gradients(inputs, loss, seed)
        mask = inputs.loss_mask
        counted = [torch.cat([g[row][mask[row]] for g in gradients]).tolist() for row in range(len(mask))]
        return [Row(value, gradient) for value, gradient in zip(values.tolist(), counted, strict=True)]

    def values_and_gradients(
        self, inputs: BatchLossInputs, loss: BoundLoss | None = None, seed: int = 0
    ) -> tuple[Tensor, list[Tensor]]:
        """Return each row's value, and the gradients of their sum by all log-probs and all entropies."""
        assert inputs.entropy is not None
        leaves = [inputs.trainer_logprobs.clone().requires_grad_(), inputs.entropy.clone().requires_grad_()]
        outputs = self.outputs(replace(inputs, trainer_logprobs=leaves[0], entropy=leaves[1]), loss, seed)
        values = sum_rows(outputs, inputs.loss_mask)
        return values.detach(), gradients_of(values.sum(), leaves)


def gradients_of(total: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of `total` by each leaf, zero where it does not depend on it."""
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(total, list(leaves), allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for grad, leaf in zip(found, leaves, strict=True)]


def same_rows(found: Sequence[Row], expected: Sequence[Row], change: str) -> str:
    """Return how little two ways of computing the same rows differ.

    Raises:
        Broken: by more than rounding does; it says what `change` did.
    """
    largest = 0.0
    for index, (row, wanted) in enumerate(zip(found, expected, strict=True)):
        where = f"sequence {index}, of {_length(wanted)} counted tokens"
        if not _close(row.value, wanted.value):
            raise Broken(f"{change}, the loss of {where}, goes from {wanted.value:.6g} to {row.value:.6g}")
        for token, pair in enumerate(zip(row.gradient, wanted.gradient, strict=True)):
            if not _close(*pair):
                slot = f"{'log-prob' if token < _length(wanted) else 'entropy'} {token % _length(wanted)}"
                raise Broken(
                    f"{change}, the gradient of {where}, by {slot} goes from {pair[1]:.6g} to {pair[0]:.6g}, though the "
                    "loss is the same"
                )
        largest = max(largest, *_differences(row, wanted))
    return f"largest difference {largest:.0e}" if largest else "no difference"


def _differences(row: Row, wanted: Row) -> list[float]:
    pairs = [(row.value, wanted.value), *zip(row.gradient, wanted.gradient, strict=True)]
    return [abs(found - expected) for found, expected in pairs]


def _length(row: Row) -> int:
    return len(row.gradient) // 2


def _close(found: float, expected: float) -> bool:
    # Not `>`: a NaN is close to nothing.
    return abs(found - expected) <= TOLERANCE * max(1.0, abs(expected))


def finite(values: Any) -> bool:
    """Whether all numbers of a tensor are finite."""
    return bool(torch.isfinite(values).all())
