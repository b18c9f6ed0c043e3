"""What a process of the ranks' check is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

TASK, BY_FORMULA = "task.pickle", "formula"
"""The file with the task, and the name of the process that computes the update by the formula."""


@dataclass(frozen=True)
class Task:
    """An update to take."""

    reference: str
    """The loss."""
    options: Mapping[str, Any]
    edges: Sequence[int]
    """Boundaries of the ranks' shares of the groups."""
    example: Mapping[str, Any]
    """The columns that the loss's author added to examples."""


@dataclass(frozen=True)
class Update:
    """The objective and the gradient of one update."""

    loss: float
    gradient: Tensor
    """Of all parameters, in one row."""
