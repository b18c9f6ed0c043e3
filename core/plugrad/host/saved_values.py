"""What a checkpoint can hold: values that `torch.load(weights_only=True)` gives back, which runs no code of the file's."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from datetime import date, time
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plugrad.errors import ContractError
from plugrad.shown import shown

DEEPEST = 50
"""Levels of containers. A container that contains itself has no end."""
ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size},
)
"""What is saved as it is, and cannot change. A subclass is not the same: its class would have to be imported."""
CONTAINERS = (dict, OrderedDict, Counter, list, tuple, set)
PLAIN = "A checkpoint holds tensors, numbers, texts, bytes, None, and lists, tuples, dicts and sets of these."

REMEDIES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (torch.Generator, "write .get_state(), and load it with .set_state(...)"),
    (random.Random, "write .getstate(), and load it with .setstate(...)"),
    (np.random.Generator, "write .bit_generator.state, and set it again"),
    (np.random.RandomState, "write .get_state(legacy=False), with its array as a list"),
    (np.ndarray, "write torch.tensor(...), or .tolist()"),
    # Before float: np.float64 is one.
    (np.generic, "write .item()"),
    (Tensor, "write a plain torch.Tensor"),
    ((nn.Module, torch.optim.Optimizer), "write its state_dict()"),
    (Enum, "write its .value"),
    ((defaultdict, UserDict), "write dict(...)"),
    ((deque, UserList, range), "write list(...)"),
    (frozenset, "write set(...)"),
    (PurePath, "write str(...)"),
    ((date, time), "write .isoformat()"),
    (bytearray, "write bytes(...)"),
    (tuple, "write tuple(...)"),
    (list, "write list(...)"),
    (set, "write set(...)"),
    (str, "write str(...)"),
    (int, "write int(...)"),
    (float, "write float(...)"),
    (Mapping, "write dict(...)"),
    ((FunctionType, MethodType, BuiltinFunctionType, type), "leave it out: code is no state"),
    (Iterator, "write how far it has come, as a number"),
)
"""What to write instead. The first that fits counts."""


def copy_for_checkpoint(state: Any, name: str, owner: str) -> Any:
    """Return a deep copy of a plugin's state, with detached tensors on the CPU.

    Args:
        state: what the plugin returned, or what it will be given.
        name: what the state is called in messages, such as `state_dict()`.
        owner: whose it is.

    Raises:
        ContractError: a value in it could not be saved and loaded. Names the place, and what to write instead.
    """

    def refuse(place: str, seen: str, fix: str) -> ContractError:
        return ContractError(f"{owner}: {name}{place} is {seen}; {fix}. {PLAIN}")

    return _copy(state, "", 0, refuse)


Refuse = Callable[[str, str, str], ContractError]


def _copy(value: Any, place: str, level: int, refuse: Refuse) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind in (Tensor, nn.Parameter):
        return _copy_of_tensor(value, place, refuse)
    if kind not in CONTAINERS:
        raise refuse(place, _with_article(kind), _remedy(value))
    if level == DEEPEST:
        raise refuse(f"{place[:40]}...", f"nested more than {DEEPEST} levels deep", "write it flat, and nothing into itself")
    if isinstance(value, dict):
        return _copy_of_dict(value, place, level, refuse)
    if isinstance(value, set):
        return {_copy_of_key(part, place, refuse) for part in value}
    return kind(_copy(part, f"{place}[{index}]", level + 1, refuse) for index, part in enumerate(value))


def _copy_of_dict(value: dict[Any, Any], place: str, level: int, refuse: Refuse) -> dict[Any, Any]:
    copied: dict[Any, Any] = type(value)()
    for key, part in list(value.items()):
        copied[_copy_of_key(key, place, refuse)] = _copy(part, f"{place}[{shown(key, 40)}]", level + 1, refuse)
    return copied


def _copy_of_key(key: Any, place: str, refuse: Refuse) -> Any:
    """Return a key of a dict, or a member of a set: neither changes, so that it is its own copy."""
    parts = key if type(key) is tuple else ()
    if type(key) not in ATOMS and type(key) is not tuple:
        raise refuse(f"{place}, at {shown(key, 40)},", _with_article(type(key)), _remedy(key))
    for part in parts:
        _copy_of_key(part, place, refuse)
    return key


def _copy_of_tensor(tensor: Tensor, place: str, refuse: Refuse) -> Tensor:
    if tensor.is_meta:
        raise refuse(place, "a tensor without values, on the device `meta`", "create it on the CPU")
    # Whole, and alone: a view would be saved with all of the tensor that it is a part of.
    return tensor.detach().cpu().clone()


def _with_article(kind: type) -> str:
    name = kind.__name__ if kind.__module__ in ("builtins", "collections") else f"{kind.__module__}.{kind.__name__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _remedy(value: Any) -> str:
    found = next((remedy for kinds, remedy in REMEDIES if isinstance(value, kinds)), None)
    if found is not None:
        return found
    if is_dataclass(value):
        return "write dataclasses.asdict(...)"
    return "write its state_dict()" if hasattr(value, "state_dict") else "write the numbers and texts in it"
