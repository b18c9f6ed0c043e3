"""Measures: numbers that know how to combine over micro-batches and ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.checked_fields import described
from plugrad.contracts.float_tensors import as_float_tensor, is_numeric_array
from plugrad.errors import ContractError, WronglyMade

Number = float | Tensor
EPSILON = 1e-12


@dataclass(frozen=True)
class Mean:
    """A mean, stored as a total and a count, which add up."""

    total: Number
    """The sum of the values."""
    count: Number
    """The number of values."""

    @classmethod
    def over(cls, values: Tensor, mask: Tensor) -> Mean:
        """Return the mean of `values` (any dtype, including bool) where `mask` is True.

        Raises:
            WronglyMade: one is no tensor, the mask is not of booleans, or it has less elements than the values.
        """
        if not isinstance(values, Tensor) or not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise WronglyMade(
                f"plugrad.Mean.over was given {described(values)} and {described(mask)}. It takes a tensor of values and a "
                "bool tensor that is True where they count."
            )
        values = values.detach()
        counted = torch.where(mask, values, torch.zeros_like(values))
        if counted.shape != mask.shape:
            raise WronglyMade(
                f"plugrad.Mean.over was given values of shape {list(values.shape)} and a mask of shape {list(mask.shape)}. "
                "Each value needs its own place in the mask, or its count is wrong."
            )
        return cls(counted.sum(), mask.sum())

    @classmethod
    def of(cls, values: Tensor | Iterable[float]) -> Mean:
        """Return the mean of all `values`."""
        if isinstance(values, Tensor):
            return cls(values.detach().sum(), float(values.numel()))
        listed = list(values)
        return cls(float(sum(listed)), float(len(listed)))

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """Return the mean, or NaN if nothing was counted."""
        count = float(self.count)
        return float(self.total) / count if count else math.nan


@dataclass(frozen=True)
class Sum:
    """A sum."""

    total: Number
    """The sum of the values."""

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.total + other.total)

    def value(self) -> float:
        """Return the sum."""
        return float(self.total)


@dataclass(frozen=True)
class Min:
    """A minimum."""

    least: Number
    """The smallest value."""

    def __add__(self, other: Min) -> Min:
        return Min(_extreme(torch.minimum, min, self.least, other.least))

    def value(self) -> float:
        """Return the smallest value."""
        return float(self.least)


@dataclass(frozen=True)
class Max:
    """A maximum."""

    greatest: Number
    """The greatest value."""

    def __add__(self, other: Max) -> Max:
        return Max(_extreme(torch.maximum, max, self.greatest, other.greatest))

    def value(self) -> float:
        """Return the greatest value."""
        return float(self.greatest)


@dataclass(frozen=True)
class Explained:
    """The share of a variance that predictions explain, stored as sums in float64, which add up."""

    count: Number
    """The number of targets."""
    errors: Number
    """The sum of target - prediction."""
    squared_errors: Number
    """The sum of its squares."""
    targets: Number
    """The sum of the targets."""
    squared_targets: Number
    """The sum of their squares."""

    @classmethod
    def over(cls, predictions: Tensor, targets: Tensor, mask: Tensor) -> Explained:
        """Return how far `predictions` explain `targets` where `mask` is True."""
        counted = targets[mask].detach().double()
        errors = counted - predictions[mask].detach().double()
        return cls(mask.sum().double(), errors.sum(), errors.square().sum(), counted.sum(), counted.square().sum())

    def __add__(self, other: Explained) -> Explained:
        return Explained(**{name: number + getattr(other, name) for name, number in vars(self).items()})

    def value(self) -> float:
        """Return 1 - var(target - prediction) / var(target), or NaN if the targets do not differ."""
        count = float(self.count)
        left, total = (
            float(squares) - float(summed) ** 2 / count if count else 0.0
            for squares, summed in ((self.squared_errors, self.errors), (self.squared_targets, self.targets))
        )
        # What is below the rounding of the squares is no variance.
        return 1 - left / total if total > EPSILON * float(self.squared_targets) else math.nan


Measure = Mean | Sum | Min | Max | Explained
"""Any of the five, for annotations."""


def as_measure(value: object, num_sequences: int) -> Measure:
    """Turn a plugin's value into a detached measure.

    A scalar is weighted by `num_sequences`, the sequences it was computed from. Of a 1-D tensor, an array or a list, each
    element counts once, and `None` in a list leaves its sequence out.

    Raises:
        TypeError: the value is not a number, a scalar, a list of numbers, or a Measure.
    """
    if isinstance(value, Measure):
        return _detached(value)
    if isinstance(value, Real):
        return Mean(float(value) * num_sequences, float(num_sequences))
    if is_numeric_array(value):
        value = as_float_tensor(value)
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
        return Mean(value.detach() * num_sequences, float(num_sequences))
    if isinstance(value, Tensor) and value.ndim == 1 and not value.is_complex():
        return Mean.of(value.detach())
    if isinstance(value, list | tuple):
        return _mean_of_elements(value)
    raise TypeError(f"a metric must be a number, a scalar or 1-D tensor, or a Measure, and this is {described(value)}")


def _mean_of_elements(values: Sequence[object]) -> Mean:
    counted = [value for value in values if value is not None]
    if all(isinstance(value, Real) for value in counted):
        return Mean.of(float(value) for value in counted)  # type: ignore[arg-type]
    wrong = [value for value in counted if not (isinstance(value, Real) or (isinstance(value, Tensor) and value.ndim == 0))]
    if wrong:
        raise TypeError(f"an element of a list must be a number, a scalar tensor or None, and one is {described(wrong[0])}")
    return Mean.of(torch.stack([torch.as_tensor(value).detach().double() for value in counted]))


class Measures(Mapping[str, Measure]):
    """Measures by name. Adding under an existing name combines the two."""

    def __init__(self, measures: Mapping[str, Measure] | None = None) -> None:
        self._by_name: dict[str, Measure] = dict(measures or {})

    def __getitem__(self, name: str) -> Measure:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def add(self, name: str, measure: Measure) -> None:
        """Combine `measure` with the one stored under `name`, if any.

        Raises:
            TypeError: the stored measure has another type.
        """
        present = self._by_name.get(name)
        if present is not None and type(present) is not type(measure):
            raise TypeError(f"{name!r} was a {type(present).__name__} and is now a {type(measure).__name__}")
        self._by_name[name] = measure if present is None else present + measure  # type: ignore[operator]

    def update(self, measures: Mapping[str, Measure]) -> None:
        """Add each of `measures`.

        Raises:
            ContractError: one was of another type, in another update or on another rank.
        """
        for name, measure in measures.items():
            try:
                self.add(name, measure)
            except TypeError as error:
                raise ContractError(
                    f"the metric {error}, in another update or on another rank. Whoever reports it must keep to one type: a "
                    "number counts as a Mean."
                ) from error

    def on_cpu(self) -> Measures:
        """Return the same measures as plain floats, with one device synchronisation for all of them."""
        leaves = [leaf for measure in self._by_name.values() for leaf in vars(measure).values()]
        tensors = [leaf.detach().double().reshape(()) for leaf in leaves if isinstance(leaf, Tensor)]
        floats = iter(torch.stack(tensors).tolist() if tensors else [])
        numbers = iter([next(floats) if isinstance(leaf, Tensor) else float(leaf) for leaf in leaves])
        return Measures({name: type(m)(**{field: next(numbers) for field in vars(m)}) for name, m in self._by_name.items()})

    def values_by_name(self) -> dict[str, float]:
        """Return the value of each measure."""
        return {name: measure.value() for name, measure in self.on_cpu().items()}


def _extreme(of_tensors: Any, of_floats: Any, left: Number, right: Number) -> Number:
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        like = left if isinstance(left, Tensor) else right
        chosen: Tensor = of_tensors(torch.as_tensor(left).to(like), torch.as_tensor(right).to(like))  # type: ignore[arg-type]
        return chosen
    return float(of_floats(left, right))


def _detached(measure: Measure) -> Measure:
    for name, number in vars(measure).items():
        if not isinstance(number, Real) and not _is_one_number(number):
            raise TypeError(
                f"the {name} of a {type(measure).__name__} must be a number or a tensor with one element, and this is "
                f"{described(number)}"
            )
    return type(measure)(**{k: v.detach() if isinstance(v, Tensor) else float(v) for k, v in vars(measure).items()})


def _is_one_number(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()
