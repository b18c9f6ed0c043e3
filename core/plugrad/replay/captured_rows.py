"""Which segment of its rollout a captured row is: losses get rows, and only the rollouts know who wrote what in them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CapturedRow:
    """A row of a rollout."""

    number: int
    """Its place among the rollout's segments, counted from 0."""
    count: int
    """How many segments the rollout has."""
    sampled: Sequence[tuple[int, int]]
    """Start and stop of each stretch of tokens that the policy sampled."""

    @property
    def prompt_length(self) -> int:
        """How many tokens come before the first reply."""
        return self.sampled[0][0]

    def is_given(self, place: int) -> bool:
        """Return whether the environment wrote a token behind the prompt."""
        return place >= self.prompt_length and not any(start <= place < stop for start, stop in self.sampled)


class RowsOfRollouts:
    """Finds the rows of a capture in its rollouts, by their tokens."""

    def __init__(self, rollouts: Sequence[Mapping[str, Any]]) -> None:
        """Take the rollouts as the capture describes them."""
        self._rollouts = {(rollout["group"], rollout["member"]): rollout for rollout in rollouts}
        self._taken: set[tuple[int, ...]] = set()

    def next(self, where: tuple[int, int, int], ids: Sequence[int], first_counted: int) -> CapturedRow:
        """Return what a row is. Of equal rows, each call returns the next one.

        Args:
            where: the update, and the rollout's group and member.
            ids: the tokens of the row, up to its last counted one.
            first_counted: the place of its first token that a loss counts.
        """
        rollout = self._rollouts.get(where[1:], {})
        segments = rollout.get("segments", [])
        for number, segment in enumerate(segments):
            if (*where, number) not in self._taken and segment["ids"][: len(ids)] == list(ids):
                self._taken.add((*where, number))
                return CapturedRow(number, len(segments), [(start, stop) for start, stop in segment["sampled"]])
        begins = first_counted if segments else int(rollout.get("prompt_length", first_counted))
        return CapturedRow(0, 1, [(begins, sys.maxsize)])
