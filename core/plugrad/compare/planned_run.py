"""One run of a comparison: its folder, its records so far, and how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

from plugrad.json_text import json_of, parse_json
from plugrad.paths import read_bytes, write_text
from plugrad.trainer.checkpoints.checkpoint_folder import newest_whole, steps_in
from plugrad.trainer.record.history import STOP_AT_REWARD, history
from plugrad.trainer.record.replaced_run import remove
from plugrad.trainer.record.run_folder import METRICS, OURS, UNFINISHED

OUTCOME, LOG = "outcome.json", "log.txt"
Record = dict[str, Any]
LARGEST = 1e300
"""No number of a record comes near it, and none beyond can be added up."""


@dataclass(frozen=True)
class Outcome:
    """How a run's process ended. Only the comparison writes it, after the process has ended."""

    exit_code: int
    """If negative: the signal that ended it."""
    num_steps: int
    seconds: float
    """Wall-clock time of the process, imports and loading included. Of a run that went on: of its last process."""
    error: str | None = None
    """The line of its output that tells why it failed."""

    @property
    def is_success(self) -> bool:
        """Whether the run came to its end. A plugin may have ended its process with exit code 0 before."""
        return self.exit_code == 0 and self.error is None


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
            outcome = Outcome(**parse_json(read_bytes(self.folder / OUTCOME)))
        except (OSError, ValueError, TypeError):
            return None
        is_whole = isinstance(outcome.exit_code, int) and isinstance(outcome.seconds, int | float)
        return outcome if is_whole and outcome.num_steps == last_step(read_records(self.folder)) else None

    @property
    def is_finished(self) -> bool:
        """Whether it succeeded, with as many steps as are wanted now. It is not run again."""
        return self.outcome is not None and self.outcome.is_success and not self.is_short

    @property
    def is_short(self) -> bool:
        """Whether it came to its end with a smaller `max_steps`."""
        outcome = self.outcome
        if outcome is None or not outcome.is_success or outcome.num_steps >= self.max_steps:
            return False
        return last_event(self.folder).get("by") != STOP_AT_REWARD

    @property
    def is_kept(self) -> bool:
        """Whether what it has done so far counts: it succeeded, or has a checkpoint to go on from."""
        outcome = self.outcome
        return (outcome is not None and outcome.is_success) or self.kept_step > 0

    @property
    def is_damaged(self) -> bool:
        """Whether it has ended, and its records are not those with which it did."""
        return (self.folder / OUTCOME).exists() and self.outcome is None

    @property
    def kept_step(self) -> int:
        """The step of its newest checkpoint; 0 if it has none, or its records do not reach that far."""
        step = next(iter(steps_in(self.folder)), 0)
        is_recorded = not self.is_damaged and damage_of(self.folder) is None and last_step(self.records) >= step
        return step if is_recorded else 0

    @property
    def keeps_its_end(self) -> bool:
        """Whether it has a whole checkpoint of its last step."""
        checkpoint = newest_whole(self.folder)
        return checkpoint is not None and checkpoint.step == last_step(self.records) == self.kept_step

    @property
    def records(self) -> list[Record]:
        """The lines of its `metrics.jsonl` so far."""
        return read_records(self.folder)

    def write(self, outcome: Outcome) -> None:
        """Write how it ended."""
        write_text(self.folder / OUTCOME, json_of(asdict(outcome)))

    def start_afresh(self) -> None:
        """Create the folder, and remove what an earlier process of this run left in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (OUTCOME, LOG, UNFINISHED, *OURS):
            remove(self.folder / name)

    def go_on(self) -> None:
        """Forget how an earlier process of this run ended, and keep what it left."""
        remove(self.folder / OUTCOME)


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
    """Return the complete lines of a run's record, up to the first that is damaged. The run may be writing the next one."""
    try:
        lines = read_bytes(folder / METRICS).split(b"\n")[:-1]
    except OSError:
        return []
    return list(takewhile(bool, map(as_record, lines)))  # type: ignore[arg-type]


def damage_of(folder: Path) -> str | None:
    """Return which line of a run's record is no record; None if all are."""
    try:
        lines = read_bytes(folder / METRICS).split(b"\n")[:-1]
    except OSError:
        return None
    number = next((number for number, line in enumerate(lines, start=1) if not as_record(line)), None)
    return None if number is None else f"line {number} of its {METRICS} is not the record of a step"


def as_record(line: bytes) -> Record | None:
    """Return a line of a record: a JSON object with the number of the step; None if it is none."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not (isinstance(record, dict) and isinstance(record.get("step"), int)):
        return None
    if not all(value is None or (isinstance(value, int | float) and abs(value) < LARGEST) for value in record.values()):
        return None
    return record if record["step"] == 0 or isinstance(record.get("num_tokens"), int) else None


def last_event(folder: Path) -> dict[str, Any]:
    """Return the last line of a run's history; an empty dict if there is none."""
    return (history(folder) or [{}])[-1]


def last_step(records: list[Record]) -> int:
    """Return the number of the last step; 0 before the first."""
    return int(records[-1]["step"]) if records else 0


def series(records: list[Record], name: str) -> list[tuple[int, float]]:
    """Return (step, value) for every record with a finite `name`."""
    return [(record["step"], record[name]) for record in records if record.get(name) is not None]
