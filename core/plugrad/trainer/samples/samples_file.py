"""`samples.jsonl`: one line a sample."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plugrad.json_text import parse_json
from plugrad.paths import open_bytes
from plugrad.shown import printable
from plugrad.trainer.record.append import append
from plugrad.trainer.record.run_folder import SAMPLES
from plugrad.trainer.samples.sample import Sample

logger = logging.getLogger("plugrad")


class SamplesFile:
    """Writes the samples of a run. A disk that is full costs the samples, not the run."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SAMPLES
        self._has_failed = False

    def __call__(self, samples: Sequence[Sample]) -> None:
        """Append the samples. Only ASCII: a terminal that prints the file obeys nothing in it."""
        if self._has_failed:
            return
        try:
            append(self._path, "".join(json.dumps(sample) + "\n" for sample in samples).encode())
        except OSError as error:
            self._has_failed = True
            logger.warning("%s cannot be written: %s. The run goes on without samples.", self._path, printable(error))


def last_of_training(folder: Path) -> list[dict[str, Any]]:
    """Return the samples of the last training step that has any; none where they cannot be read."""
    last: list[dict[str, Any]] = []
    try:
        for sample in _read(folder / SAMPLES):
            if sample["phase"] == "training":
                last = [*last, sample] if last and last[0]["step"] == sample["step"] else [sample]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return last


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with open_bytes(path, "rb") as file:
        for line in file:
            yield parse_json(line)
