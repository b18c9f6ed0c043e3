"""`metrics.jsonl`: one line a step, on disk as soon as the step is done, and nowhere else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from plugrad.errors import TrainingError
from plugrad.run_result import Lines
from plugrad.trainer.record.append import append
from plugrad.trainer.record.replaced_run import forget
from plugrad.trainer.record.run_folder import METRICS


class StepCount:
    """How far a run has come: for ranks that do not write."""

    lines = None

    def __init__(self) -> None:
        self.num_steps = 0

    def write(self, record: Mapping[str, float | int]) -> None:
        """Note the step of a record."""
        self.num_steps = int(record["step"])


class MetricsFile:
    """The records of a run, in `metrics.jsonl`: every line is whole, and on disk when `write` returns."""

    def __init__(self, folder: Path) -> None:
        self.num_steps = 0
        """Steps that are recorded, without the evaluation before the first."""
        self._folder = folder
        self._num_lines = self._length = 0
        self._last = b""

    def go_on(self) -> None:
        """Go on with the lines that the file holds."""
        found = Lines.of(self._folder / METRICS)
        self._length, self._last = found.length, found.last
        for record in found:
            self._num_lines, self.num_steps = self._num_lines + 1, record["step"]

    @property
    def lines(self) -> Lines:
        """The lines that were written."""
        return Lines(self._folder / METRICS, self._length, self._last)

    def write(self, record: Mapping[str, float | int]) -> None:
        """Append a record. A number that is not finite becomes null: JSON has no NaN.

        The first step makes this run the folder's: one that it replaces is removed.

        Raises:
            TrainingError: the disk is full or cannot be written. The file then ends with the last whole line.
        """
        path = self._folder / METRICS
        line = (json.dumps({name: _jsonable(value) for name, value in record.items()}) + "\n").encode()
        try:
            self._length = append(path, line)
        except OSError as error:
            found = f"holds {self._num_lines} whole lines" if path.is_file() else "is gone, or its folder is"
            raise TrainingError(
                f"{path} cannot be written: {error}. It {found}. Make room, or choose another output_dir."
            ) from error
        self._last, self._num_lines = line, self._num_lines + 1
        if not self.num_steps and record["step"]:
            forget(self._folder)
        self.num_steps = int(record["step"])


def _jsonable(value: float | int) -> float | int | None:
    return value if isinstance(value, int) or math.isfinite(value) else None
