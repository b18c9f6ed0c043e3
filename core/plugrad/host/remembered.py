"""What a plugin's object remembers: its attributes as values that compare, before and after it is called."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cached_property
from inspect import getattr_static
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plugrad.shown import text_of

DEEPEST = 8
"""Levels of containers and objects that are looked through."""
MOST = 10_000
"""Values that are looked at in one attribute: an environment may keep all examples."""
ATOMS = (bool, int, float, complex, str, bytes, PurePath, date, time, timedelta, Decimal, Fraction, Enum, np.generic)
CODE = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType)
SEQUENCES: tuple[type[Any], ...] = (list, tuple, deque)
OPAQUE = "what is no data"
"""Stands for functions, files, locks and the like: they are no state that could be saved."""


def remembered(instance: object) -> dict[str, Any]:
    """Return each attribute of an object as a value that equals another one only if the attributes hold the same data.

    Large attributes are compared in part. A function remembers nothing.
    """
    return {name: comparable(value) for name, value in _attributes(instance).items()}


def comparable(value: Any) -> Any:
    """Return tuples of numbers and texts that equal those of another value only if both hold the same data."""
    return _Reader().read(value)


def changed_attributes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names of the attributes that were changed in between, as in `self.total`.

    One that held nothing and now holds what is no data was created on first use, such as a connection. It does not count.
    """
    names = [name for name, value in after.items() if name not in before or before[name] != value]
    created = [name for name in names if before.get(name) in (None, OPAQUE) and after[name] == OPAQUE]
    return [f"self.{name}" for name in [*names, *(before.keys() - after.keys())] if name not in created]


def _attributes(value: object) -> dict[str, Any]:
    """Return what an object holds in `__dict__` and in slots, without what a `cached_property` computed from the rest."""
    try:
        held = object.__getstate__(value)
    except Exception:
        # An object of compiled code.
        return {}
    named, slots = held if isinstance(held, tuple) else (held, None)
    both = {**(named or {}), **(slots or {})}
    return {
        name: part for name, part in both.items() if not isinstance(getattr_static(type(value), name, None), cached_property)
    }


class _Reader:
    """Reads one attribute, as far as `MOST` values go."""

    def __init__(self) -> None:
        self._left = MOST
        self._within: set[int] = set()

    def read(self, value: Any) -> Any:
        """Return the value as tuples of numbers and texts."""
        self._left -= 1
        if value is None:
            return None
        if isinstance(value, ATOMS):
            # As text: a NaN equals no other, and True equals 1.
            return (type(value).__name__, text_of(value, repr))
        if self._left < 0 or len(self._within) > DEEPEST or id(value) in self._within:
            return OPAQUE
        self._within.add(id(value))
        try:
            return _with_own_state(value) or self._parts(value)
        except Exception:
            # A class of the author's that cannot be looked through.
            return OPAQUE
        finally:
            self._within.discard(id(value))

    def _parts(self, value: Any) -> Any:
        name = type(value).__name__
        if isinstance(value, CODE):
            return OPAQUE
        # Of the built-in containers, and past methods of the author's: a mapping may count what is read of it.
        held = _attributes(value)
        attributes = tuple((key, self.read(part)) for key, part in held.items())
        if isinstance(value, dict):
            items = tuple((self.read(key), self.read(part)) for key, part in self._few(dict.items(value)))
            return (name, items, dict.__len__(value), attributes)
        kind = next((kind for kind in SEQUENCES if isinstance(value, kind)), None)
        if kind is not None:
            return (name, tuple(self.read(part) for part in self._few(kind.__iter__(value))), len(value), attributes)
        if isinstance(value, set | frozenset):
            return (name, frozenset(self.read(part) for part in self._few(value)), len(value), attributes)
        return (name, attributes) if held else OPAQUE

    def _few(self, parts: Iterable[Any]) -> Iterator[Any]:
        for part in parts:
            if self._left <= 0:
                return
            yield part


def _with_own_state(value: Any) -> Any:
    """Return the state of a tensor, an array or a generator of random numbers; None for anything else."""
    name = type(value).__name__
    if isinstance(value, Tensor | np.ndarray):
        numbers: Any = value.detach() if isinstance(value, Tensor) else value
        numbers = numbers.to_dense() if getattr(numbers, "is_sparse", False) else numbers
        return (name, tuple(value.shape), str(value.dtype), repr(numbers.reshape(-1)[:MOST].tolist()))
    if isinstance(value, random.Random):
        return (name, value.getstate())
    if isinstance(value, torch.Generator):
        return (name, repr(value.get_state().tolist()))
    if isinstance(value, np.random.Generator):
        return (name, repr(value.bit_generator.state))
    return (name, repr(value.get_state())) if isinstance(value, np.random.RandomState) else None
