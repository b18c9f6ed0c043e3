"""Tensors with a graph in what a component keeps: on itself, in containers, and in the variables of a function."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor

from plugrad.host.own_parameters import variables_of

DEEPEST = 5
"""Levels of containers and objects that are looked through."""
MOST = 10_000
"""Values that are looked at: a component may keep large tables of numbers."""


def graphs_in(value: Any, name: str) -> Iterator[str]:
    """Yield where there are tensors with a graph in a value: `self.kept[0]`, for the name `self`."""
    yield from _found(value, name, DEEPEST, set())


def graphs_kept_by(made: Any) -> Iterator[str]:
    """Yield where a component, as `Component.create` made it, keeps tensors with a graph."""
    target = made.func if isinstance(made, partial) else made
    if not inspect.isfunction(target):
        yield from graphs_in(target, "self")
        return
    for name, value in {**variables_of(target), **vars(target)}.items():
        # Modules, classes and other functions are not its own.
        if not callable(value):
            yield from graphs_in(value, name)


def _found(value: Any, name: str, levels: int, seen: set[int]) -> Iterator[str]:
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield name
        return
    if levels < 0 or id(value) in seen or len(seen) > MOST or isinstance(value, type | ModuleType | FunctionType):
        return
    seen.add(id(value))
    for label, part in _parts(value):
        yield from _found(part, f"{name}{label}", levels - 1, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r:.50}]", part) for key, part in list(value.items()))
    elif isinstance(value, list | tuple | deque | set | frozenset):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    yield from ((f".{attribute}", part) for attribute, part in getattr(value, "__dict__", {}).items())
