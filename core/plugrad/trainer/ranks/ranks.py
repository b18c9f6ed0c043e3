"""The ranks of a run: which one this is, and what they exchange outside the gradient."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch.distributed as dist
from accelerate import Accelerator, PartialState

from plugrad.contracts.measures import Measures
from plugrad.errors import PlugradError
from plugrad.trainer.ranks.failure import Failure, add_rank_note

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""How long one rank may generate or save while the others wait. A failure is noticed at once, by other means."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, and this one's place among them. A run in one process has one rank.

    Every rank must call `gather`, and the methods that use it, in the same order.
    """

    index: int = 0
    count: int = 1
    group: Any = None
    """A gloo group on the CPU: an exchange here never waits for a device."""

    @classmethod
    def of(cls, accelerator: Accelerator) -> Ranks:
        """Return the ranks that a launcher, Accelerate's or plugrad's, has started."""
        if accelerator.num_processes == 1:
            return cls()
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        return cls(accelerator.process_index, accelerator.num_processes, group)

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that prints and writes."""
        return self.index == 0

    @property
    def name(self) -> str:
        """The number of this rank and its host, for messages."""
        return f"rank {self.index} of {self.count}, on {socket.gethostname()}"

    def share_of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this rank's contiguous block."""
        return items[len(items) * self.index // self.count : len(items) * (self.index + 1) // self.count]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order."""
        if self.group is None:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    def add_up(self, measures: Measures) -> Measures:
        """Return the sum of all ranks' measures, the same on every rank."""
        total = Measures()
        for part in self.gather(measures.on_cpu()):
            total.update(part)
        return total

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.gather(None)

    def together(self, attempt: Callable[[], T], num_trying: int | None = None) -> T:
        """Call `attempt` on every rank. If it fails on one, all ranks raise: those where it succeeded raise RankError.

        Where it fails on all `num_trying` ranks (by default every rank), the error is not attributed to any of them.
        """
        result: T | None = None
        error: PlugradError | None = None
        try:
            result = attempt()
        except PlugradError as raised:
            error = raised
        failures = [failure for failure in self.gather(error and Failure.of(error, self.index, self.name)) if failure]
        if not failures:
            return cast(T, result)
        if error is None or failures[0].rank != self.index:
            raise failures[0].as_error() from error
        error.is_known_to_all = True
        if len(failures) < (num_trying or self.count):
            add_rank_note(error, self.name, [failure.rank for failure in failures])
        raise error

    def on_main(self, attempt: Callable[[], T]) -> T | None:
        """Call `attempt` on the main rank and return its result there, None elsewhere. If it fails, all ranks raise."""
        return self.together(attempt if self.is_main else lambda: None, num_trying=1)

    def from_main(self, attempt: Callable[[], T]) -> T:
        """Call `attempt` on the main rank and return its result on all ranks. If it fails, all ranks raise."""
        return self.gather(cast(T, self.on_main(attempt)))[0]


def leave() -> None:
    """Leave the process group, at the end of the process."""
    PartialState().destroy_process_group()
