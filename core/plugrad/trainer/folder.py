"""The run folder: made once, never silently overwritten, readable at any moment."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plugrad.config.reading import write_run_file
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError

RUN_FILE, PLUGINS, METRICS, MODEL = "run.toml", "plugins.json", "metrics.jsonl", "model"
OURS = (RUN_FILE, PLUGINS, METRICS, MODEL)


def open_run_folder(run_file: RunFile, plugins: Mapping[str, Any], *, overwrite: bool) -> Path:
    """Make the run folder and write what is known before the run: the resolved run file and the plugins.

    Raises:
        RunFileError: it holds a run already and `overwrite` is False, or it cannot be written.
    """
    folder = Path(run_file.output_dir)
    present = [name for name in OURS if (folder / name).exists()]
    if present and not overwrite:
        raise RunFileError(
            f"{folder} already holds a run ({', '.join(present)}). Choose another with --set output_dir=..., or give "
            "--overwrite to replace it."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in present:
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
        write_run_file(run_file, folder / RUN_FILE)
        (folder / PLUGINS).write_text(json.dumps(plugins, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunFileError(f"the run folder {folder} cannot be written: {error}. Choose another output_dir.") from error
    return folder


class MetricsFile:
    """`metrics.jsonl`: one whole line a step, on disk as soon as the step is done."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS
        self.records: list[dict[str, Any]] = []

    def write(self, record: Mapping[str, float | int]) -> None:
        """Append a record. A number that is not finite is written as null: JSON has no NaN."""
        plain = {name: _jsonable(value) for name, value in record.items()}
        self.records.append(plain)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")


def _jsonable(value: float | int) -> float | int | None:
    return value if isinstance(value, int) or math.isfinite(value) else None
