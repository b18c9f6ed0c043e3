"""What teachers make of the counted tokens of a micro-batch, for the divergence of the policy from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plugrad.policy.teacher_tokens import LogitSource


@dataclass(frozen=True)
class TeacherStates:
    """One teacher's last hidden states, or logits: one for each counted token of the rows that it teaches, row by row.

    Not a tuple: what wraps the policy would change the dtype of tensors that it finds in one.
    """

    rows: Bool[Tensor, "batch"]
    """The rows that it teaches."""
    hidden: Float[Tensor, "tokens hidden"] | None = None
    source: Callable[[Tensor], LogitSource] | None = None
    """Adds its output layer to states; None if it is the policy itself, which has it at hand."""
    logits: Float[Tensor, "tokens vocab"] | None = None
    """Over no temperature, of a teacher whose output layer is not linear."""


@dataclass(frozen=True)
class Taught:
    """The counted tokens of some rows, each with one teacher; or no teachers."""

    teachers: Sequence[TeacherStates]
    counted: Bool[Tensor, "batch seq"]

    def places(self) -> list[Int[Tensor, "own"]]:
        """Return the places, among the counted tokens, of those that each teacher teaches."""
        rows = self._token_rows()
        return [teacher.rows[rows].nonzero().squeeze(1) for teacher in self.teachers]

    def of_row(self, row: int) -> list[TeacherStates]:
        """Return what the teacher of one row has for it alone."""
        rows = self._token_rows()
        return [self._alone(teacher, row, rows) for teacher in self.teachers if bool(teacher.rows[row])]

    def _alone(self, teacher: TeacherStates, row: int, rows: Int[Tensor, "tokens"]) -> TeacherStates:
        own = rows[teacher.rows[rows]] == row
        hidden, logits = (None if values is None else values[own] for values in (teacher.hidden, teacher.logits))
        return replace(teacher, rows=teacher.rows[row : row + 1], hidden=hidden, logits=logits)

    def _token_rows(self) -> Int[Tensor, "tokens"]:
        # The first token of a row never counts.
        return self.counted[:, 1:].nonzero()[:, 0]


def in_order(parts: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """Return values of the tokens of several teachers in the order of the tokens."""
    return torch.cat(list(parts)).index_select(0, torch.cat(list(places)).argsort())
