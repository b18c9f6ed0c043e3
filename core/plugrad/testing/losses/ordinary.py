"""The micro-batches that every run has: as drawn, with one advantage per sequence, without any, and on policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.errors import PlugradError
from plugrad.testing.losses.loss_trial import LossTrial, name_of
from plugrad.testing.losses.trial_micro_batches import draw_micro_batch, on_policy, with_row_advantages
from plugrad.testing.numbers import is_finite

ROW_ADVANTAGES = (1.0, -0.5, 0.25, -1.0, 2.0, -2.0, 0.5)
IN_RUNS = (torch.double, torch.float)


@dataclass(frozen=True)
class Failure:
    """A value or gradient of an ordinary micro-batch that is not finite."""

    seen: str
    fix: str
    """Empty: the usual one."""


@dataclass(frozen=True)
class _Ordinary:
    sequences: str
    """What the sequences of a micro-batch have in common."""
    inputs: BatchLossInputs
    fix: str = ""
    """Where it is known what goes wrong with such sequences."""


def _ordinary(dtype: torch.dtype) -> Iterator[_Ordinary]:
    drawn = draw_micro_batch(dtype=dtype)
    yield _Ordinary("seven ordinary sequences", drawn)
    equal = "Most advantages give every token of a sequence the same number, whose deviation is 0: add a number to what you "
    equal += "divide by."
    yield _Ordinary("seven sequences with one advantage each", with_row_advantages(drawn, ROW_ADVANTAGES), equal)
    none = "A group of equal rewards has no advantages: add a number to what you divide by."
    yield _Ordinary("seven sequences without advantages", with_row_advantages(drawn, [0.0] * len(ROW_ADVANTAGES)), none)
    same = "In the first update of a step the policies are equal: sqrt, a norm and a deviation have no finite gradient at 0."
    yield _Ordinary("seven sequences on policy", on_policy(drawn), same)


def not_finite(loss: LossTrial, dtype: torch.dtype) -> Failure | None:
    """Return the first value or gradient of an ordinary micro-batch that is not finite in this dtype.

    Raises:
        PlugradError: the loss raised.
    """
    if dtype not in loss.failures:
        loss.failures[dtype] = _first_not_finite(loss, dtype)
    found: Failure | None = loss.failures[dtype]
    return found


def _first_not_finite(loss: LossTrial, dtype: torch.dtype) -> Failure | None:
    said = "" if dtype is torch.double else f" in {name_of(dtype)}"
    for case in _ordinary(dtype):
        values, gradients = loss.values_and_gradients(case.inputs)
        if not is_finite(values):
            return Failure(f"the losses of {case.sequences} are {_shown(values)}{said}", case.fix)
        if not all(map(is_finite, gradients)):
            return Failure(f"the gradient of {case.sequences} is not finite{said}", case.fix)
    return None


def works_in(loss: LossTrial, dtype: torch.dtype) -> bool:
    """Whether it is finite for ordinary numbers of this dtype. The check of the dtype says why it is not."""
    try:
        return not_finite(loss, dtype) is None
    except PlugradError:
        return False


def _shown(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]
