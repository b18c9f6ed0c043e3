"""Read what a run left in its folder, without holding all of it."""

from __future__ import annotations

import tomllib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from plugrad.contracts.run_records import RunRecords, Series
from plugrad.errors import RunFileError
from plugrad.json_text import parse_json
from plugrad.paths import open_bytes, read_bytes, read_text
from plugrad.shown import printable

RUN_FILE, PLUGINS, METRICS, SAMPLES = "run.toml", "plugins.json", "metrics.jsonl", "samples.jsonl"
MOST_LINES = 1000
"""As many lines are read evenly. A signal that only more of them would show is none that anybody acts on."""
LARGEST = 1e300
RARE = (b'"eval/', b": null")
"""What is read in every line that has it."""
NO_SKIPS = b'"skipped_updates": 0.0'


def read_records(folder: Path) -> RunRecords:
    """Return what a run left in `folder`; the run may still go on.

    Raises:
        RunFileError: the folder holds no run, or a file of it is damaged.
    """
    missing = [name for name in (RUN_FILE, PLUGINS) if not (folder / name).is_file()]
    if missing:
        raise RunFileError(f"{printable(folder)} holds no run: it has no {missing[0]}. Give the output_dir of a run.")
    try:
        tables = tomllib.loads(read_text(folder / RUN_FILE))
        plugins = parse_json(read_bytes(folder / PLUGINS), has_constants=True)
        numbers, num_steps = _numbers(folder / METRICS)
    except (OSError, ValueError, RecursionError) as error:
        raise RunFileError(f"the records of the run in {printable(folder)} cannot be read: {printable(error)}.") from error
    if not isinstance(plugins, dict):
        raise RunFileError(f"{printable(folder / PLUGINS)} is not the record of a run.")
    return RunRecords(folder, tables, plugins, num_steps, numbers, Samples(folder / SAMPLES))


@dataclass(frozen=True)
class Samples:
    """The samples of a run, one after another, as they are read from the file."""

    path: Path

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield the samples that can be read: a run that goes on may be in the middle of a line."""
        if not self.path.is_file():
            return
        with open_bytes(self.path, "rb") as file:
            for line in file:
                try:
                    found = parse_json(line)
                except ValueError:
                    continue
                if isinstance(found, dict):
                    yield found


def _numbers(path: Path) -> tuple[dict[str, Series], int]:
    """Return every number by name, and the last step.

    Raises:
        ValueError: a line is no record.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return {}, 0
    found: dict[str, tuple[array[int], array[float]]] = {}
    last = 0
    with open_bytes(path, "rb") as file:
        count = _count(file)
        every = max(1, count // MOST_LINES)
        for index, line in enumerate(file):
            # A run that goes on is in the middle of it.
            if not line.endswith(b"\n"):
                break
            record = (
                parse_json(line, f"{METRICS}, line {index + 1},")
                if index == count - 1 or _is_read(line, index, every)
                else {}
            )
            step = record.pop("step", None) if isinstance(record, dict) else None
            if isinstance(step, int):
                last = max(last, step)
                _add(found, step, record)
            elif record != {}:
                raise ValueError(f"{METRICS}, line {index + 1}, is no record of a step")
    return {name: Series(np.array(steps), np.array(values)) for name, (steps, values) in found.items()}, last


def _count(file: BinaryIO) -> int:
    number = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    file.seek(0)
    return number


def _is_read(line: bytes, index: int, every: int) -> bool:
    return index % every == 0 or any(part in line for part in RARE) or NO_SKIPS not in line


def _add(found: dict[str, tuple[array[int], array[float]]], step: int, record: Mapping[str, Any]) -> None:
    for name, value in record.items():
        if value is None or isinstance(value, int | float):
            steps, values = found.setdefault(name, (array("q"), array("d")))
            steps.append(step)
            # An integer of JSON's may be beyond all floats.
            values.append(float("nan") if value is None or abs(value) > LARGEST else value)
