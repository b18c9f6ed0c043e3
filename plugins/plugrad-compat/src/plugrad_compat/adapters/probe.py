"""Probe: what a foreign scalar was divided by, and whether it mixes sequences, found on sequences drawn for it.

Calls tell, with a sequence, with the same tokens twice over, and with two sequences at once. They are drawn from a seed,
alike in every process.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from plugrad import BatchLossInputs
from plugrad.testing import loss_inputs

LENGTH = 5
"""Of each sequence, in tokens: the same, since a function that takes a plain mean counts padding too."""
PROMPT = 2
PAIRS = ((0, 1, (1.0, 1.0)), (2, 3, (4.0, -4.0)), (4, 5, (-0.1, 20.0)))
"""Seeds of two sequences, and what multiplies the advantages of each: a loss may mix only what a threshold selects."""
EXACT, ROUGH = 1e-5, 0.05
"""How near is the same: of sums in 32 bits, and of a loss that mixes, which is a sum or a mean only roughly."""
Scalar = Callable[[BatchLossInputs], float]
Divisor = Literal["tokens", "nothing"] | None


@dataclass(frozen=True)
class Found:
    """What the calls tell."""

    divides_by: Divisor
    """None where the loss is no sum over tokens, so that the question has no answer."""
    mixes: bool
    """Whether two sequences together are something else than each alone."""
    is_finite: bool
    """Whether two sequences together are a number at all."""


@dataclass(frozen=True)
class Probe:
    """Sequences to try a loss on."""

    dtype: torch.dtype
    device: torch.device

    @classmethod
    def like(cls, inputs: BatchLossInputs) -> Probe:
        """Return a probe whose sequences lie where these do, in 32 bits at least."""
        return cls(torch.promote_types(inputs.advantages.dtype, torch.float32), inputs.advantages.device)

    def of(self, scalar: Scalar) -> Found:
        """Try a loss, without gradient and with the random state put back."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            first = self.sequence(0)
            divides_by = _divisor(scalar(first), scalar(_repeated(first)), EXACT)
            found = [self._pair(scalar, *pair) for pair in PAIRS]
        mixes = any(not _explained(*values) for values in found)
        return Found(divides_by, mixes, all(math.isfinite(both) for both, _, _ in found))

    def divisor_of(self, scalar: Scalar) -> Divisor:
        """Try what a loss that mixes sequences divides two of them by."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            both = _together(self.sequence(0), self.sequence(1))
            return _divisor(scalar(both), scalar(_repeated(both)), ROUGH)

    def _pair(self, scalar: Scalar, left: int, right: int, scales: tuple[float, float]) -> tuple[float, float, float]:
        """Return what the loss is of two sequences together, and of each alone."""
        one, other = (self.sequence(seed, scale) for seed, scale in zip((left, right), scales, strict=True))
        return scalar(_together(one, other)), scalar(one), scalar(other)

    def sequence(self, seed: int = 0, scale: float = 1.0) -> BatchLossInputs:
        """Return one sequence as a micro-batch: a prompt of two tokens, and five that count."""
        inputs = loss_inputs([LENGTH], seed=seed, drift=0.1, reward=torch.ones(1, dtype=torch.double))
        advantage = 0.5 + torch.rand(1, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
        inputs = replace(inputs, advantages=scale * advantage * inputs.loss_mask, group_ids=None, metadata=None)
        return _changed(inputs, lambda value: value.to(self.device, self.dtype if value.is_floating_point() else None))


def _divisor(alone: float, twice: float, tolerance: float) -> Divisor:
    if alone == 0 or not math.isfinite(alone):
        return None
    by_divisor: dict[Divisor, float] = {"tokens": alone, "nothing": 2 * alone}
    near = [name for name, wanted in by_divisor.items() if math.isclose(twice, wanted, rel_tol=tolerance)]
    return near[0] if near else None


def _repeated(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the sequence with its counted tokens twice."""
    return _changed(inputs, lambda value: torch.cat([value, value[:, PROMPT:]], dim=1) if value.ndim > 1 else value)


def _together(first: BatchLossInputs, second: BatchLossInputs) -> BatchLossInputs:
    """Return both in one micro-batch."""
    others = _tensors(second)
    values = {name: torch.cat([value, others[name]]) for name, value in _tensors(first).items()}
    return replace(first, **values)  # type: ignore[arg-type]


def _changed(inputs: BatchLossInputs, change: Callable[[Tensor], Tensor]) -> BatchLossInputs:
    return replace(inputs, **{name: change(value) for name, value in _tensors(inputs).items()})  # type: ignore[arg-type]


def _tensors(inputs: BatchLossInputs) -> dict[str, Tensor]:
    return {name: value for name, value in vars(inputs).items() if isinstance(value, Tensor)}


def _explained(both: float, first: float, second: float) -> bool:
    """Whether two sequences are the sum of each alone, or the mean."""
    # Of what was added up, not of the sum: the two may nearly cancel.
    near = EXACT * (abs(first) + abs(second)) + 1e-9
    return any(abs(both - expected) <= near for expected in (first + second, (first + second) / 2))
