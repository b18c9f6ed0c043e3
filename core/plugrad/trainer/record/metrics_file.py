"""`metrics.jsonl`: one line a step, on disk as soon as the step is done."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plugrad.errors import TrainingError
from plugrad.json_text import read_json_lines
from plugrad.paths import open_bytes
from plugrad.trainer.record.run_folder import METRICS


class Records:
    """The records of a run, in memory: for ranks that do not write."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def write(self, record: Mapping[str, float | int]) -> None:
        """Keep a record. A number that is not finite becomes None: JSON has no NaN."""
        self.records.append({name: _jsonable(value) for name, value in record.items()})


class MetricsFile:
    """The records of a run, in `metrics.jsonl`: every line is whole, and on disk when `write` returns."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS
        self._kept = Records()

    def go_on(self) -> None:
        """Keep what the file holds."""
        self._kept.records = [record for _, record in read_json_lines(self._path)]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records in the file."""
        return self._kept.records

    def write(self, record: Mapping[str, float | int]) -> None:
        """Append a record. A number that is not finite becomes null: JSON has no NaN.

        Raises:
            TrainingError: the disk is full or cannot be written. The file then ends with the last whole line.
        """
        plain = {name: _jsonable(value) for name, value in record.items()}
        try:
            self._append((json.dumps(plain) + "\n").encode())
        except OSError as error:
            found = f"holds {len(self.records)} whole lines" if self._path.is_file() else "is gone, or its folder is"
            raise TrainingError(
                f"{self._path} cannot be written: {error}. It {found}. Make room, or choose another output_dir."
            ) from error
        self._kept.write(record)

    def _append(self, line: bytes) -> None:
        with open_bytes(self._path, "ab", buffering=0) as file:
            length = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(length)
                raise


def _jsonable(value: float | int) -> float | int | None:
    return value if isinstance(value, int) or math.isfinite(value) else None
