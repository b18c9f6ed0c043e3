"""Twice: find out what a scalar of many sequences was divided by, by calling a loss with all of them twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad import BatchLossInputs

EXACT = 1e-5


def divisor_of_rows(
    scalar: Callable[[BatchLossInputs], float], rows: BatchLossInputs
) -> Literal["sequences", "nothing"] | None:
    """Return what it was divided by, or None if the answer is neither: in a larger batch it may compare more.

    It is called without gradient, and the random state stays as it is.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        once, both = scalar(rows), scalar(twice(rows))
    if once == 0 or not math.isfinite(once):
        return None
    if math.isclose(both, once, rel_tol=EXACT):
        return "sequences"
    return "nothing" if math.isclose(both, 2 * once, rel_tol=EXACT) else None


def twice(rows: BatchLossInputs) -> BatchLossInputs:
    """Return all rows twice, the second time as rollouts of other prompts."""
    tensors = {name: value for name, value in vars(rows).items() if isinstance(value, Tensor)}
    values: dict[str, Any] = {name: torch.cat([value, value]) for name, value in tensors.items()}
    if rows.group_ids is not None:
        values["group_ids"] = torch.cat([rows.group_ids, rows.group_ids + rows.group_ids.max() + 1])
    return replace(rows, metadata=rows.metadata and [*rows.metadata, *rows.metadata], **values)
