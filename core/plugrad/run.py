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
