"""The result of a run: what `plugrad.train` returns, or carries when a signal ends the run early."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunResult:
    """The result of a run."""

    folder: Path
    """Holds `run.toml`, `plugins.json`, `metrics.jsonl` and `model/`."""
    model: Path
    """The final model and tokenizer, an ordinary Transformers folder."""
    num_steps: int
    """Steps completed: fewer than `max_steps` if a stopping rule ended the run."""
    seconds: float
    """Wall-clock time, including the time to load the model."""
    records: list[dict[str, Any]]
    """The lines of `metrics.jsonl`."""
    learns_from_rewards: bool = True
    """Whether equal rewards leave the run nothing to learn: no loss or advantage has another signal."""

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) for every step that recorded `name`."""
        return [(record["step"], record[name]) for record in self.records if record.get(name) is not None]


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or SIGHUP ended a run after a complete step. The model of that step is saved."""

    def __init__(self, signal: signal.Signals, result: RunResult) -> None:
        super().__init__(
            f"Stopped by {signal.name} after step {result.num_steps}. The model of that step is in {result.model}."
        )
        self.signal = signal
        self.result = result
