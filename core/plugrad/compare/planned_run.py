"""One run of a comparison: its folder, its records so far, and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from plugrad.trainer.record.run_folder import METRICS, OURS, UNFINISHED, remove

OUTCOME, LOG = "outcome.json", "log.txt"
Record = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a run's process ended. Only the comparison writes it, after the process has ended."""

    exit_code: int
    """If negative: the signal that ended it."""
    num_steps: int
    seconds: float
    """Wall-clock time of the process, imports and loading included."""
    error: str | None = None
    """The line of its output that tells why it failed."""


@dataclass(frozen=True)
class PlannedRun:
    """An arm at a seed."""

    arm: str
    seed: int
    folder: Path
    run_file: Path
    """The arm's run file. The seed is set when the run is started."""
    max_steps: int

    @property
    def log(self) -> Path:
        """The file with the run's output."""
        return self.folder / LOG

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None if it has not ended, was interrupted, or its record has changed since."""
        try:
            outcome = Outcome(**json.loads((self.folder / OUTCOME).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return outcome if outcome.num_steps == last_step(read_records(self.folder)) else None

    @property
    def is_finished(self) -> bool:
        """Whether it succeeded. It is not run again."""
        return self.outcome is not None and self.outcome.exit_code == 0

    @property
    def records(self) -> list[Record]:
        """The lines of its `metrics.jsonl` so far."""
        return read_records(self.folder)

    def write(self, outcome: Outcome) -> None:
        """Write how it ended."""
        (self.folder / OUTCOME).write_text(json.dumps(asdict(outcome), indent=2) + "\n", encoding="utf-8")

    def start_afresh(self) -> None:
        """Create the folder, and remove what an earlier process of this run left in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (OUTCOME, LOG, UNFINISHED, *OURS):
            remove(self.folder / name)


@dataclass(frozen=True)
class FinishedRun:
    """A run that succeeded, with its record read once."""

    run: PlannedRun

    @cached_property
    def records(self) -> list[Record]:
        """The steps, without the evaluation before the first."""
        return [record for record in self.run.records if record["step"]]

    @cached_property
    def held_out(self) -> list[tuple[int, float]]:
        """Step and held-out reward of every evaluation."""
        return series(self.run.records, "eval/reward")


def read_records(folder: Path) -> list[Record]:
    """Return the complete lines of a run's record. The run may be writing the next one."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def last_step(records: list[Record]) -> int:
    """Return the number of the last step; 0 before the first."""
    return int(records[-1]["step"]) if records else 0


def series(records: list[Record], name: str) -> list[tuple[int, float]]:
    """Return (step, value) for every record with a finite `name`."""
    return [(record["step"], record[name]) for record in records if record.get(name) is not None]
