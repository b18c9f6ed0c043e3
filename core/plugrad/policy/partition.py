"""Where to cut sequences, sorted by length, so that padding and passes cost least together."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

PASS_COST = 48
"""What one more forward and backward pass costs, in tokens of padding.

A pass through the quickstart's model of half a million parameters takes as long as about a hundred tokens, however short it
is. Half of that keeps padding under a tenth in batches of a few dozen sequences too, and costs those steps nothing: smaller
passes are quicker per token.
"""


def least_padding(lengths: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Return the blocks (start, stop) of `lengths`, longest first, whose padded tokens and passes cost least.

    A block's padded tokens, rows * longest row, are at most `budget`; no length alone may be more.
    """
    partition = Partition(lengths, budget)
    for stop in range(1, len(lengths) + 1):
        partition.extend_to(stop)
    return partition.blocks()


def full_blocks(lengths: Sequence[int], budget: int) -> list[tuple[int, int]]:
    """Return the blocks (start, stop) of `lengths` that fill the budget one after the other, where nothing is padded."""
    blocks, start, tokens = [], 0, 0
    for stop, length in enumerate(lengths):
        if tokens + length > budget:
            blocks.append((start, stop))
            start, tokens = stop, 0
        tokens += length
    return [*blocks, (start, len(lengths))] if lengths else []


@dataclass
class Partition:
    """The best blocks of the first lengths, for more and more of them: dynamic programming over where the last one starts.

    A later start pads less for each further length: once it is better than an earlier one, it stays better. So every start
    has one range of stops, and where two ranges meet is found by bisection (Galil and Park, 1992): n log n steps, where
    trying every block would be n * n.
    """

    lengths: Sequence[int]
    budget: int
    best: list[float] = field(default_factory=lambda: [0.0])
    """The cost of the first n lengths."""
    starts: list[int] = field(default_factory=lambda: [0])
    """Where the last block of the first n lengths starts."""
    ranges: deque[tuple[int, int]] = field(default_factory=lambda: deque([(0, 1)]))
    """Starts, each with the first stop for which it is the best one known."""

    def cost(self, start: int, stop: int) -> float:
        """Return the cost of the lengths before `stop` if the last block begins at `start`."""
        padded = (stop - start) * self.lengths[start]
        return self.best[start] + padded + PASS_COST if padded <= self.budget else math.inf

    def extend_to(self, stop: int) -> None:
        """Find the last block for one more length, and let another one start behind it."""
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
