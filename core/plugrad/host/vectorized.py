"""Call a loss of one sequence on several sequences at once, with `torch.func.vmap`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from plugrad.contracts.loss import LossInputs, LossOutputs
from plugrad.contracts.measures import Max, Measure, Min, as_measure
from plugrad.errors import ContractError
from plugrad.host.loss_outputs import check_sequence_outputs

RELATIVE_TOLERANCE = 1e-4


class Several(Mapping[str, Any]):
    """Stands for the examples of several sequences. A loss that reads it cannot be mapped: each sequence has its own."""

    def __init__(self) -> None:
        self._is_read = False

    def check_unread(self) -> None:
        """Raise TypeError if anything was read, even if the loss went on."""
        if self._is_read:
            raise TypeError("the loss reads metadata, which differs between sequences")

    def _refuse(self, *_: object) -> NoReturn:
        self._is_read = True
        self.check_unread()
        raise AssertionError

    __getitem__ = __iter__ = __len__ = __bool__ = __contains__ = __eq__ = __repr__ = _refuse
    __hash__ = None  # type: ignore[assignment]


def call_vectorized(
    call: Callable[[LossInputs], object], columns: Mapping[str, Tensor], shared: Mapping[str, Any], owner: str
) -> LossOutputs:
    """Call a loss once for sequences of one length. Their fields are the rows of `columns`; `shared` holds the others.

    Returns losses `[rows]` or `[rows, length]`, and metrics as one value per row, or combined.

    Raises:
        Exception: raised by `vmap` if the loss cannot be mapped, or by the loss itself.
    """
    names = list(columns)
    layout: dict[str, Any] = {}

    def one_sequence(*values: Tensor) -> tuple[Tensor, ...]:
        row = LossInputs.unchecked({**shared, **dict(zip(names, values, strict=True))})
        outputs = check_sequence_outputs(owner, call(row), row)
        layout.update(outputs.metrics)
        numbers = [number for metric in outputs.metrics.values() for number in _numbers(metric)]
        return (outputs.loss, *(number.detach() for number in numbers if isinstance(number, Tensor)))

    loss, *found = torch.func.vmap(one_sequence)(*columns.values())
    tensors = iter(found)
    return LossOutputs(loss, {name: _over_rows(metric, tensors, len(loss)) for name, metric in layout.items()})


def same_outputs(left: LossOutputs, right: LossOutputs) -> bool:
    """Return whether two results are equal up to the order of summation."""
    if left.loss.shape != right.loss.shape or left.metrics.keys() != right.metrics.keys():
        return False
    numbers = [(left.loss, right.loss)]
    for name in left.metrics:
        values = [as_measure(outputs.metrics[name], len(outputs.loss)).value() for outputs in (left, right)]
        numbers.append((torch.tensor(values[0]), torch.tensor(values[1])))
    return all(_close(a.detach(), b.detach()) for a, b in numbers)


def _close(left: Tensor, right: Tensor) -> bool:
    smallest = RELATIVE_TOLERANCE * float(right.abs().max()) if right.numel() else 0.0
    return torch.allclose(left, right, rtol=RELATIVE_TOLERANCE, atol=smallest, equal_nan=True)


def _numbers(metric: object) -> list[object]:
    return list(vars(metric).values()) if isinstance(metric, Measure) else [metric]


def _over_rows(metric: object, tensors: Any, num_rows: int) -> Tensor | Measure:
    """Combine one metric over the rows. `tensors` yields the rows of each of its tensors, in order."""
    if isinstance(metric, Measure):
        rows = {name: _rows_of(number, tensors, num_rows) for name, number in vars(metric).items()}
        if isinstance(metric, Min):
            return Min(rows["least"].amin())
        if isinstance(metric, Max):
            return Max(rows["greatest"].amax())
        return type(metric)(**{name: column.sum() for name, column in rows.items()})
    if not isinstance(metric, Tensor | float | int | bool):
        raise ContractError(f"a metric of type {type(metric).__name__}")
    column = _rows_of(metric, tensors, num_rows)
    if column.ndim > 2:
        raise ContractError("a metric with more than one axis")
    return column.flatten()


def _rows_of(number: object, tensors: Any, num_rows: int) -> Tensor:
    if isinstance(number, Tensor):
        column: Tensor = next(tensors)
        return column
    assert isinstance(number, float | int)
    return torch.full((num_rows,), float(number))
