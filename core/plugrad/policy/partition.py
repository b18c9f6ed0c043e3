"""Cut sequences, sorted by length, into blocks with the least total cost of padding and passes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

PASS_COST = 48
"""Cost of one more forward and backward pass, in tokens of padding.

Through the quickstart's model of half a million parameters, even the shortest pass takes as long as about a hundred tokens.
Half of that keeps padding below 10%, also in batches of a few dozen sequences, at no cost in time: smaller passes are faster
per token.
"""


def least_padding(lengths: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Return the blocks (start, stop) of `lengths`, longest first, with the least total cost of padded tokens and passes.

    A block has at most `budget` padded tokens, rows * longest row. No single length may exceed the budget.
    """
    partition = Partition(lengths, budget)
    for stop in range(1, len(lengths) + 1):
        partition.extend_to(stop)
    return partition.blocks()


def full_blocks(lengths: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Return the blocks (start, stop) of `lengths` that fill the budget one after another, without padding."""
    blocks, start, tokens = [], 0, 0
    for stop, length in enumerate(lengths):
        if tokens + length > budget:
            blocks.append((start, stop))
            start, tokens = stop, 0
        tokens += length
    return [*blocks, (start, len(lengths))] if lengths else []


@dataclass
class Partition:
    """The best blocks of growing prefixes of `lengths`, by dynamic programming over the start of the last block.

    A later start pads less for each further length, so once it beats an earlier start, it always does. Each start is
    therefore best for one range of stops, and bisection finds where two ranges meet (Galil and Park, 1992). This takes
    n log n steps instead of the n * n of trying every block.
    """

    lengths: Sequence[int]
    budget: int
    best: list[float] = field(default_factory=lambda: [0.0])
    """Cost of the first n lengths."""
    starts: list[int] = field(default_factory=lambda: [0])
    """Start of the last block of the first n lengths."""
    ranges: deque[tuple[int, int]] = field(default_factory=lambda: deque([(0, 1)]))
    """Starts, each with the first stop for which it is the best known one."""

    def cost(self, start: int, stop: int) -> float:
        """Return the cost of the lengths before `stop` if the last block begins at `start`."""
        padded = (stop - start) * self.lengths[start]
        return self.best[start] + padded + PASS_COST if padded <= self.budget else math.inf

    def extend_to(self, stop: int) -> None:
        """Add one length: find its last block, and allow another block to start after it."""
        while len(self.ranges) > 1 and self.ranges[1][1] <= stop:
            self.ranges.popleft()
        start = self.ranges[0][0]
        self.best.append(self.cost(start, stop))
        self.starts.append(start)
        if stop < len(self.lengths):
            self._add_start(stop)

    def _add_start(self, start: int) -> None:
        while self.ranges and self.ranges[-1][1] > start and self._is_better(start, self.ranges[-1][1]):
            self.ranges.pop()
        first = start + 1
        if self.ranges:
            stops = range(max(first, self.ranges[-1][1]), len(self.lengths) + 1)
            first = stops.start + bisect_left(stops, True, key=lambda stop: self._is_better(start, stop))
        if first <= len(self.lengths):
            self.ranges.append((start, first))

    def _is_better(self, start: int, stop: int) -> bool:
        return self.cost(start, stop) <= self.cost(self.ranges[-1][0], stop)

    def blocks(self) -> list[tuple[int, int]]:
        """Return the best blocks, first to last."""
        found, stop = [], len(self.lengths)
        while stop:
            found.append((self.starts[stop], stop))
            stop = self.starts[stop]
        return found[::-1]
