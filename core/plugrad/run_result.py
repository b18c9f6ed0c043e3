"""The result of a run: what `plugrad.train` returns, or carries when a signal ends the run early."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from plugrad.errors import TrainingError
from plugrad.json_text import parse_json
from plugrad.paths import open_bytes
from plugrad.shown import printable


@dataclass(frozen=True)
class Lines:
    """The lines that a run wrote into its `metrics.jsonl`. They stay there: a long run has more than fit in memory."""

    path: Path
    length: int
    """In bytes. A run that goes on from this one adds more."""
    last: bytes
    """The last line, by which the file of a later run in the same folder is told apart."""

    @classmethod
    def of(cls, path: Path) -> Lines:
        """Return the lines that a file holds now.

        Raises:
            TrainingError: the file cannot be read.
        """
        length, last = 0, b""
        try:
            with open_bytes(path, "rb") as file:
                for line in file:
                    length, last = length + len(line), line
        except OSError as error:
            raise TrainingError(f"the records of the run cannot be read from {path}: {printable(error)}.") from error
        return cls(path, length, last)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read one record after another.

        Raises:
            TrainingError: the file cannot be read, or a later run has replaced it.
        """
        if not self.length:
            return
        try:
            with open_bytes(self.path, "rb") as file:
                self._check(file)
                file.seek(0)
                while file.tell() < self.length:
                    yield parse_json(file.readline())
        except TrainingError:
            raise
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"the records of the run cannot be read from {self.path}: {printable(error)}. They are read when they are "
                "asked for: keep the file, or read them before it is moved."
            ) from error

    def _check(self, file: BinaryIO) -> None:
        file.seek(self.length - len(self.last))
        if file.read(len(self.last)) != self.last:
            raise TrainingError(
                f"{self.path} holds other records than this run wrote: a later run replaced them. Read the records of a run "
                "before the next one uses its folder, or give each run its own output_dir."
            )


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
    lines: Lines
    """The records, one after another, as they are read from the file."""
    learns_from_rewards: bool = True
    """Whether equal rewards leave the run nothing to learn: no loss or advantage has another signal."""

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, read now.

        Raises:
            TrainingError: the file cannot be read, or a later run has replaced it.
        """
        return list(self.lines)

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) for every step that recorded `name`, read now.

        Raises:
            TrainingError: the file cannot be read, or a later run has replaced it.
        """
        return [(record["step"], record[name]) for record in self.lines if record.get(name) is not None]


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C, SIGTERM, SIGUSR1 or SIGHUP ended a run after a complete step. The model of that step is saved."""

    def __init__(self, signal: signal.Signals, result: RunResult, *, can_go_on: bool = False) -> None:
        to_go_on = f" To go on: plugrad train --resume {result.folder}" if can_go_on else ""
        super().__init__(
            f"Stopped by {signal.name} after step {result.num_steps}. The model of that step is in {result.model}.{to_go_on}"
        )
        self.signal = signal
        self.result = result
