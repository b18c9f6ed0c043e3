"""The run folder: made once, never silently overwritten, readable at any moment."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from plugrad.config.reading import write_run_file
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError, TrainingError
from plugrad.rollout.servers.stale_weights import remove_stale_weights

RUN_FILE, PLUGINS, METRICS, MODEL = "run.toml", "plugins.json", "metrics.jsonl", "model"
OURS = (RUN_FILE, PLUGINS, METRICS, MODEL)
UNFINISHED = "model.unfinished"


def check_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Say before any work whether the run folder can be made; nothing is written or removed yet.

    Raises:
        RunFileError: it holds a run already and `overwrite` is False, or it cannot be written.
    """
    present = _present(folder)
    if present and not overwrite:
        raise RunFileError(
            f"{folder} already holds a run ({', '.join(present)}). Choose another with --set output_dir=..., or give "
            "--overwrite to replace it."
        )
    if present and PLUGINS not in present:
        raise RunFileError(
            f"{folder} holds {', '.join(present)} and no {PLUGINS}: that is no run of plugrad's, and nothing there is "
            "replaced. Choose another folder with --set output_dir=..."
        )
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        # Tried and not looked up: permissions do not show a read-only or a full disk.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise _cannot_be_written(folder, error) from error


def open_run_folder(run_file: RunFile, plugins: Mapping[str, Any]) -> Path:
    """Make the run folder, without an earlier run, and write what is known before the run: run file and plugins.

    Raises:
        RunFileError: it cannot be written.
    """
    folder = Path(run_file.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in [*_present(folder), UNFINISHED]:
            remove(folder / name)
        remove_stale_weights(folder)
        write_run_file(run_file, folder / RUN_FILE)
        (folder / PLUGINS).write_text(json.dumps(plugins, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise _cannot_be_written(folder, error) from error
    return folder


def save_model(folder: Path, save: Callable[[Path], object]) -> Path:
    """Let `save` write the model; it appears under its name once it is whole, with what it came from inside.

    Raises:
        TrainingError: it cannot be written.
    """
    unfinished, finished = folder / UNFINISHED, folder / MODEL
    try:
        remove(unfinished)
        save(unfinished)
        _add_provenance(folder, unfinished)
        remove(finished)
        unfinished.rename(finished)
    # Safetensors raises an exception of its own where the disk is full.
    except Exception as error:
        raise TrainingError(f"the model cannot be saved in {folder}: {type(error).__name__}: {error}") from error
    return finished


class Records:
    """The records of a run, in memory: all that a rank keeps which does not write."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def write(self, record: Mapping[str, float | int]) -> None:
        """Keep a record. A number that is not finite is kept as None: JSON has no NaN."""
        self.records.append({name: _jsonable(value) for name, value in record.items()})


class MetricsFile:
    """`metrics.jsonl`: one whole line a step, on disk as soon as the step is done."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS
        self._kept = Records()

    @property
    def records(self) -> list[dict[str, Any]]:
        """What is in the file."""
        return self._kept.records

    def write(self, record: Mapping[str, float | int]) -> None:
        """Append a record. A number that is not finite is written as null: JSON has no NaN.

        Raises:
            TrainingError: the disk is full or cannot be written; the file ends with the last whole line.
        """
        plain = {name: _jsonable(value) for name, value in record.items()}
        try:
            self._append((json.dumps(plain) + "\n").encode())
        except OSError as error:
            raise TrainingError(
                f"{self._path} cannot be written: {error}. It holds {len(self.records)} whole lines. Make room, or choose "
                "another output_dir."
            ) from error
        self._kept.write(record)

    def _append(self, line: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            length = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(length)
                raise


def _add_provenance(folder: Path, model: Path) -> None:
    """Copy what the run was into the model's folder, so that it travels with it."""
    for name in (RUN_FILE, PLUGINS):
        # Whoever deleted it while the run went on shall still get the model.
        with suppress(FileNotFoundError):
            shutil.copyfile(folder / name, model / name)


def _present(folder: Path) -> list[str]:
    return [name for name in OURS if (folder / name).exists()]


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _cannot_be_written(folder: Path, error: OSError) -> RunFileError:
    return RunFileError(f"the run folder {folder} cannot be written: {error}. Choose another output_dir.")


def _jsonable(value: float | int) -> float | int | None:
    return value if isinstance(value, int) or math.isfinite(value) else None
