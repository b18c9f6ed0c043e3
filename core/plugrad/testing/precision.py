"""The promise of every kind that computes with tensors: no rounding to a narrower dtype spoils a comparison."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from plugrad.errors import PlugradError
from plugrad.host.author import line_in
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.numbers import Numbers

UNSEEN = 2**-30
"""A share of a number that float64 sees, and no narrower dtype does."""
STEPS = {torch.float32: 2**-12, torch.float16: 2**-6, torch.bfloat16: 2**-4}
"""A share of a number that the dtype sees."""
AGREES = {torch.float32: 0.005, torch.float16: 0.5, torch.bfloat16: 0.5}
"""How far the slopes to both sides may differ, for rounding: elsewhere the component jumps or bends."""
LOST = {torch.float32: 0.01, torch.float16: 0.5, torch.bfloat16: 0.5}
"""How far the slope that float64 shows may differ from both: more than a bend between them can explain."""
NARROWEST_FIRST = (torch.bfloat16, torch.float16, torch.float32)
FLAT = 0.1
"""The slope of a number that does not follow the inputs, or less than its rounding hides."""

S = TypeVar("S")

Moved = Callable[[str, float], Numbers]
"""The component's numbers with one field of its inputs moved by this share."""


def moved_by(value: Tensor, share: float) -> Tensor:
    """Return the numbers, each larger by up to this share, so that means and differences move. What is 0 stays 0."""
    places = torch.arange(value.numel()).reshape(value.shape)
    sizes = (1 + places * 7 % 11).to(value.dtype) / 11
    return value * (1 + share * sizes)


def rounding_of(fields: Iterable[str], moved: Moved) -> Rounding | None:
    """Return the rounding of numbers that do not follow differences of the inputs which only float64 can hold.

    Args:
        fields: those of the inputs that hold numbers in float64.
        moved: calls the component.
    """
    narrow: list[_Narrow] = []
    for field in fields:
        with _Watch(narrow):
            start = moved(field, 0.0)
        for dtype in NARROWEST_FIRST:
            found = [one for one in narrow if one.dtype is dtype]
            name = _lost(lambda share, field=field: moved(field, share), start, dtype) if found else None
            if name:
                return Rounding(min(found, key=lambda one: not one.is_cast), field, name)
    return None


@dataclass(frozen=True)
class _Narrow:
    """A tensor that is narrower than float64."""

    dtype: torch.dtype
    line: str
    """The author's line that made it."""
    is_cast: bool
    """Whether it was made of one in float64."""


@dataclass(frozen=True)
class Rounding:
    """A number that a component rounds to a narrower dtype than its inputs have."""

    narrow: _Narrow
    field: str
    """Of the inputs."""
    name: str
    """Of a number that shows it."""

    def __str__(self) -> str:
        dtype = _name_of(self.narrow.dtype)
        return (
            f"it computes in {dtype} whatever it is given ({self.narrow.line}): {self.name} does not follow differences of "
            f"{self.field} that float64 holds and {dtype} does not"
        )


class _Watch(TorchFunctionMode):
    """Note the narrow tensors that calls of PyTorch return in the body."""

    def __init__(self, found: list[_Narrow]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        line = line_in(sys._getframe(1)) if isinstance(result, Tensor) and result.dtype in STEPS else None
        if line:
            of_double = any(isinstance(given, Tensor) and given.dtype is torch.double for given in args)
            self._found.append(_Narrow(result.dtype, line, of_double))
        return result


def _lost(moved: Callable[[float], Numbers], start: Numbers, dtype: torch.dtype) -> str | None:
    """Return a number that follows a step of this dtype, and not one that only float64 sees."""
    step = STEPS[dtype]
    above, below, unseen = moved(step), moved(-step), moved(UNSEEN)
    for name, value in start.items():
        if not all(name in numbers for numbers in (above, below, unseen)):
            continue
        up, down = (above[name] - value) / step, (value - below[name]) / step
        # Not `>`: a NaN follows nothing.
        follows = abs(up) >= FLAT * max(1.0, abs(value)) and abs(up - down) <= AGREES[dtype] * abs(up)
        if follows and abs((unseen[name] - value) / UNSEEN - (up + down) / 2) > LOST[dtype] * abs(up):
            return name
    return None


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def precision_promise(rounding: Callable[[S], Rounding | None], exact: Sequence[Promise[S]]) -> Promise[S]:
    """Return the promise for a kind.

    Args:
        rounding: finds the rounding of a component on trial.
        exact: the promises whose checks compare in float64.
    """

    def check(trial: S) -> str:
        found = rounding(trial)
        if found is None:
            return "float64 stays float64"
        if found.narrow.dtype is not torch.float32:
            raise Broken(str(found))
        for promise in exact:
            try:
                promise.run(trial)
            except (NotApplicable, PlugradError):
                # Its own check tells of what it raises.
                continue
            except Broken as broken:
                raise Broken(f"{found}. So {promise.name} fails: {broken}") from broken
        return f"rounded to float32 ({found.narrow.line}), which no comparison shows"

    return Promise(
        "precision",
        "if it is given float64 it does not round to 16 bits, nor to float32 where a comparison shows it",
        "Rounded numbers differ in their last digits with the cut, the padding and the order, and have no exact derivative. "
        "The kit compares in float64, which tells an error from rounding.",
        "Write plugrad.at_least_float32(x) instead of x.float() or x.half(): it widens 16-bit numbers, and leaves float64 "
        "as it is. Create tensors with x.new_tensor(...), or with dtype=x.dtype: torch.tensor and torch.arange know no x.",
        check,
    )
