"""Turn what holds numbers into float tensors, where that loses nothing: integers, arrays of NumPy, nested lists."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

SAME_IN_TORCH = ("float16", "float32", "float64")


def is_numeric_array(value: object) -> bool:
    """Return whether a value is an array, or a scalar, of NumPy that holds real numbers or booleans."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf"


def as_float_tensor(value: Any) -> Any:
    """Return a tensor or array as a float tensor: integers and booleans in float64. Anything else as it is."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() or value.is_complex() else value.double()
    if not is_numeric_array(value):
        return value
    dtype = value.dtype if value.dtype.name in SAME_IN_TORCH else np.float64
    # PyTorch reads no array with negative strides or in another byte order, and warns of one that cannot be written.
    return torch.as_tensor(np.array(value, dtype=np.dtype(dtype).newbyteorder("=")))


def as_groups(given: Any) -> Any:
    """Return one number per rollout as one tensor, or one sequence per rollout as lists of tensors.

    Args:
        given: `given[i][j]` belongs to the j-th rollout of example i. Numbers become float64. What holds neither numbers
            nor sequences of numbers stays as it is.

    Raises:
        ValueError: there is one number per rollout, but not the same number of rollouts in every group.
    """
    if not isinstance(given, list | tuple) or not all(isinstance(group, list | tuple) for group in given):
        return as_float_tensor(given)
    entries = [entry for group in given for entry in group]
    if entries and all(map(_is_number, entries)):
        sizes = [len(group) for group in given]
        if len(set(sizes)) > 1:
            raise ValueError(f"one advantage per rollout, in groups of {sizes}: every group has the same number of rollouts")
        return torch.tensor([[float(entry) for entry in group] for group in given], dtype=torch.double)
    are_lists = isinstance(given, list) and all(isinstance(group, list) for group in given)
    if are_lists and all(isinstance(entry, Tensor) and entry.is_floating_point() for entry in entries):
        return given
    return [[_as_row(entry) for entry in group] for group in given]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex())


def _as_row(entry: Any) -> Any:
    if isinstance(entry, Sequence) and all(map(_is_number, entry)):
        return torch.tensor([float(number) for number in entry], dtype=torch.double)
    return as_float_tensor(entry)
