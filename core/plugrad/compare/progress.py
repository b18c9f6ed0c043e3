"""The progress of a comparison: the state of every run, and an estimate of the time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from plugrad.compare.planned_run import PlannedRun, Record, as_record
from plugrad.compare.quantities import at_the_end
from plugrad.paths import open_bytes
from plugrad.trainer.record.run_folder import METRICS

Status = Literal["waiting", "running", "done", "failed"]
LAST_LINES = 65536
"""Bytes at the end of a record that are searched for its last line; more if that is longer."""


@dataclass
class RunState:
    """The state of a run."""

    status: Status = "waiting"
    step: int = 0
    reward: float | None = None
    error: str | None = None


@dataclass
class Progress:
    """The states of all runs."""

    runs: Sequence[PlannedRun]
    states: dict[PlannedRun, RunState] = field(default_factory=dict)
    _took: list[float] = field(default_factory=list)
    _started: float = 0.0
    _first_step: tuple[float, int] | None = None
    """When a step of the current run was first seen, in seconds after its start, and which step: loading comes before."""
    _before: Record | None = None
    """The last record of an earlier process of the current run."""

    def __post_init__(self) -> None:
        self.states = {run: RunState() for run in self.runs}
        for run in self.runs:
            if run.is_finished:
                self.note_end(run)

    @property
    def current(self) -> PlannedRun | None:
        """The run that is running."""
        return next((run for run, state in self.states.items() if state.status == "running"), None)

    def number(self, status: Status) -> int:
        """Return the number of runs with this status."""
        return sum(state.status == status for state in self.states.values())

    def note_start(self, run: PlannedRun) -> None:
        """Note that a run starts."""
        self.states[run] = RunState("running")
        self._before = last_record(run.folder) if run.kept_step else None
        self._started, self._first_step = time.monotonic(), None

    def note_step(self, run: PlannedRun) -> None:
        """Read the last step of a run."""
        record = last_record(run.folder)
        if record is not None:
            state = self.states[run]
            state.step, state.reward = int(record["step"]), record.get("reward", state.reward)
            if record != self._before:
                self._first_step = self._first_step or (time.monotonic() - self._started, state.step)

    def note_end(self, run: PlannedRun) -> None:
        """Read how a run ended, now or in an earlier comparison."""
        outcome = run.outcome
        assert outcome is not None
        if not outcome.is_success:
            self.states[run] = RunState("failed", outcome.num_steps, error=outcome.error)
            return
        self._took.append(outcome.seconds)
        steps = [record for record in run.records if record["step"]]
        self.states[run] = RunState("done", outcome.num_steps, at_the_end(steps, "reward"))

    def failures(self) -> dict[tuple[str, str], list[PlannedRun]]:
        """Return the failed runs, grouped by arm and error."""
        alike: dict[tuple[str, str], list[PlannedRun]] = {}
        for run, state in self.states.items():
            if state.status == "failed":
                alike.setdefault((run.arm, f"failed after step {state.step}: {state.error}"), []).append(run)
        return alike

    @property
    def seconds_left(self) -> float | None:
        """The time left if the other runs take as long as those before; None if nothing is known yet."""
        current = self.current
        elapsed = time.monotonic() - self._started if current else 0.0
        expected = self._expected(elapsed)
        if expected is None:
            return None
        return (max(expected - elapsed, 0.0) if current else 0.0) + self.number("waiting") * expected

    def _expected(self, elapsed: float) -> float | None:
        if self._took:
            return sum(self._took) / len(self._took)
        current = self.current
        if current is None or self._first_step is None:
            return None
        until_then, first = self._first_step
        steps = self.states[current].step - first
        return until_then + (elapsed - until_then) / steps * (current.max_steps - first) if steps else None


def last_record(folder: Path) -> Record | None:
    """Return the last complete line of a record that a run is writing; None if there is none, or it is damaged."""
    length = LAST_LINES
    try:
        with open_bytes(folder / METRICS, "rb") as file:
            end = file.seek(0, 2)
            while True:
                start = file.seek(max(0, end - length))
                lines = file.read(end - start).split(b"\n")[:-1]
                # The first of them may lack its beginning.
                if start == 0 or len(lines) > 1:
                    break
                length *= 2
    except OSError:
        return None
    return as_record(lines[-1]) if lines else None
