"""A run, as extensions and callers of `plugrad.train` see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad.config.run_file import RunFile


@dataclass(frozen=True)
class Run:
    """A run that is going on."""

    run_file: RunFile
    """Resolved: every default written, every path absolute."""
    folder: Path
    """The run folder."""
    num_processes: int
    """How many train together."""


@dataclass(frozen=True)
class RunResult:
    """What a run left behind."""

    folder: Path
    """Holds `run.toml`, `plugins.json`, `metrics.jsonl` and `model/`."""
    model: Path
    """The final model and tokenizer, an ordinary Transformers folder."""
    num_steps: int
    """Steps that were done: fewer than asked for where a stopping rule ended the run."""
    seconds: float
    """Wall-clock time, the loading of the model included."""
    records: list[dict[str, Any]]
    """The lines of `metrics.jsonl`."""

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) wherever `name` was recorded."""
        return [(record["step"], record[name]) for record in self.records if record.get(name) is not None]
