"""A run, as extensions see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plugrad.config.run_file import RunFile


@dataclass(frozen=True)
class Run:
    """A run in progress."""

    run_file: RunFile
    """Resolved: every default is filled in and every path is absolute."""
    folder: Path
    """The run folder."""
    num_processes: int
    """The number of ranks."""
    rank: int = 0
    """This process, counted from 0. Each rank has its own instance of every extension."""
    first_step: int = 0
    """How many steps were done when it began: 0, or those of the checkpoint that it goes on from."""

    @property
    def num_ranks(self) -> int:
        """The number of ranks: another name for `num_processes`."""
        return self.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone should print, write and log."""
        return self.rank == 0
