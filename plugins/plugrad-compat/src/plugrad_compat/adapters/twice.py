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
Divisor = Literal["sequences", "nothing"] | None


def divisor_of_rows(scalar: Callable[[BatchLossInputs], float], rows: BatchLossInputs) -> Divisor:
    """Return what it was divided by, or None if that cannot be told: in a larger batch a loss may compare more.

    It is called without gradient, and the random state stays as it is.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        once = scalar(rows)
        # A loss may see the groups, and treat each apart.
        found = {_divisor(once, scalar(twice(rows, of_the_same_prompts=same))) for same in (False, True)}
    return found.pop() if len(found) == 1 else None


def _divisor(once: float, both: float) -> Divisor:
    if once == 0 or not math.isfinite(once):
        return None
    if math.isclose(both, once, rel_tol=EXACT):
        return "sequences"
    return "nothing" if math.isclose(both, 2 * once, rel_tol=EXACT) else None


def twice(rows: BatchLossInputs, *, of_the_same_prompts: bool) -> BatchLossInputs:
    """Return all rows twice, the second time as rollouts of the same prompts or of others."""
    tensors = {name: value for name, value in vars(rows).items() if isinstance(value, Tensor)}
    values: dict[str, Any] = {name: torch.cat([value, value]) for name, value in tensors.items()}
    if rows.group_ids is not None and not of_the_same_prompts:
        values["group_ids"] = torch.cat([rows.group_ids, rows.group_ids + rows.group_ids.max() + 1])
    return replace(rows, metadata=rows.metadata and [*rows.metadata, *rows.metadata], **values)
