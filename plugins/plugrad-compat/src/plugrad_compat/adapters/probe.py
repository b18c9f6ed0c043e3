"""Probe: find out what a foreign scalar was divided by, and whether it mixes sequences.

The probe calls the loss with one random sequence, with its tokens repeated, and with two sequences at once. The
sequences come from a seed, so they are the same in every process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad import BatchLossInputs
from plugrad.testing import loss_inputs

LENGTH = 5
"""Tokens per sequence. All are equal, since a function that takes a plain mean counts padding too."""
PROMPT = 2
PAIRS = ((0, 1, (1.0, 1.0)), (2, 3, (4.0, -4.0)), (4, 5, (-0.1, 20.0)))
"""Seeds of two sequences, and factors for their advantages: a loss may mix only what a threshold selects."""
EXACT, ROUGH = 1e-5, 0.05
"""Relative tolerances: for sums in 32 bits, and for a loss that mixes, which is only roughly a sum or a mean."""
Scalar = Callable[[BatchLossInputs], float]
Divisor = Literal["tokens", "nothing"] | None


@dataclass(frozen=True)
class Found:
    """The result of a probe."""

    divides_by: Divisor
    """None if the loss is not a sum over tokens, so the question has no answer."""
    mixes: bool
    """Whether the loss of two sequences together differs from their separate losses combined."""
    is_finite: bool
    """Whether the loss of two sequences together is finite."""


@dataclass(frozen=True)
class Probe:
    """Random sequences to try a loss on."""

    dtype: torch.dtype
    device: torch.device
    examples: tuple[Mapping[str, Any], ...] = ()
    """The columns of the sequences, in turn. None: no foreign loss of this style reads them."""

    @classmethod
    def like(cls, inputs: BatchLossInputs) -> Probe:
        """Return a probe with sequences on the device of these inputs, in at least 32 bits."""
        return cls(torch.promote_types(inputs.advantages.dtype, torch.float32), inputs.advantages.device)

    def of(self, scalar: Scalar, known: Divisor = None) -> Found:
        """Try a loss, without gradient and without changing the random state.

        If its divisor is known, the loss of two sequences may be nothing but their mean, or nothing but their sum.
        """
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            first = self.sequence(0)
            divides_by = _divisor(scalar(first), scalar(_repeated(first)), EXACT)
            found = [self._pair(scalar, *pair) for pair in PAIRS]
        mixes = any(not _explained(*values, known) for values in found)
        return Found(divides_by, mixes, all(math.isfinite(both) for both, _, _ in found))

    def divisor_of(self, scalar: Scalar) -> Divisor:
        """Find the divisor of a loss that mixes sequences, by trying it on two of them."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            both = self.sequences(2)
            return _divisor(scalar(both), scalar(_repeated(both)), ROUGH)

    def _pair(self, scalar: Scalar, left: int, right: int, scales: tuple[float, float]) -> tuple[float, float, float]:
        """Return the loss of two sequences together, and of each alone."""
        one, other = (self.sequence(seed, scale) for seed, scale in zip((left, right), scales, strict=True))
        return scalar(_together(one, other)), scalar(one), scalar(other)

    def sequences(self, num: int) -> BatchLossInputs:
        """Return one sequence or two, in one micro-batch."""
        return self.sequence(0) if num == 1 else _together(self.sequence(0), self.sequence(1))

    def sequence(self, seed: int = 0, scale: float = 1.0) -> BatchLossInputs:
        """Return one sequence as a micro-batch: a prompt of two tokens and five counted tokens."""
        inputs = loss_inputs([LENGTH], seed=seed, drift=0.1, reward=torch.ones(1, dtype=torch.double))
        advantage = 0.5 + torch.rand(1, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
        # No foreign loss that is called with tokens reads the others.
        changed: dict[str, Any] = dict.fromkeys(("group_ids", "hidden_states", "embedding"))
        changed["metadata"] = [self.examples[seed % len(self.examples)]] if self.examples else None
        changed["teacher_logits"] = inputs.logits.roll(1, dims=2) if inputs.logits is not None else None
        inputs = replace(inputs, advantages=scale * advantage * inputs.loss_mask, **changed)
        return _changed(inputs, lambda value: value.to(self.device, self.dtype if value.is_floating_point() else None))


def _divisor(alone: float, twice: float, tolerance: float) -> Divisor:
    if alone == 0 or not math.isfinite(alone):
        return None
    by_divisor: dict[Divisor, float] = {"tokens": alone, "nothing": 2 * alone}
    near = [name for name, wanted in by_divisor.items() if math.isclose(twice, wanted, rel_tol=tolerance)]
    return near[0] if near else None


def _repeated(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the sequence with its counted tokens repeated."""
    return _changed(inputs, lambda value: torch.cat([value, value[:, PROMPT:]], dim=1) if value.ndim > 1 else value)


def _together(first: BatchLossInputs, second: BatchLossInputs) -> BatchLossInputs:
    """Return both sequences in one micro-batch."""
    others = _tensors(second)
    values: dict[str, Any] = {name: torch.cat([value, others[name]]) for name, value in _tensors(first).items()}
    metadata = [*(first.metadata or []), *(second.metadata or [])] or None
    return replace(first, metadata=metadata, **values)


def _changed(inputs: BatchLossInputs, change: Callable[[Tensor], Tensor]) -> BatchLossInputs:
    return replace(inputs, **{name: change(value) for name, value in _tensors(inputs).items()})  # type: ignore[arg-type]


def _tensors(inputs: BatchLossInputs) -> dict[str, Tensor]:
    return {name: value for name, value in vars(inputs).items() if isinstance(value, Tensor)}


def _explained(both: float, first: float, second: float, known: Divisor) -> bool:
    """Return whether two sequences together give the sum or the mean of each alone."""
    # Relative to the summands, not to the sum: the two may nearly cancel.
    near = EXACT * (abs(first) + abs(second)) + 1e-9
    by_divisor: dict[Divisor, float] = {"nothing": first + second, "tokens": (first + second) / 2}
    expected = by_divisor.values() if known is None else [by_divisor[known]]
    return any(abs(both - value) <= near for value in expected)
