"""What a run's folder says of it: numbers, samples, run file, plugins and history. Everything in it is somebody's input."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from plugrad.errors import RunFileError
from plugrad.paths import exists, expanded, read_text
from plugrad.report.passed_over import PassedOver
from plugrad.shown import escaped, printable
from plugrad.trainer.record.history import HISTORY, history
from plugrad.trainer.record.plugins_file import read_plugins
from plugrad.trainer.record.run_folder import METRICS, PLUGINS, RUN_FILE, SAMPLES

LARGEST = 1e300
RECORDS = (METRICS, PLUGINS, RUN_FILE, SAMPLES, HISTORY)


@dataclass(frozen=True)
class Curve:
    """A number of `metrics.jsonl`, by step; None where it was not finite."""

    steps: Sequence[float]
    values: Sequence[float | None]

    @property
    def finite(self) -> list[float]:
        """The values that are numbers."""
        return [value for value in self.values if value is not None]


@dataclass(frozen=True)
class ReportedRun:
    """The records of one run. What a folder lacks is empty here, and named in `missing`."""

    folder: Path
    curves: Mapping[str, Curve]
    samples: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    plugins: Mapping[str, Any]
    tables: Mapping[str, Any]
    """The resolved run file."""
    run_file: str
    missing: Sequence[str]
    passed_over: PassedOver = field(default_factory=PassedOver)
    """What could not be read."""

    @property
    def last_step(self) -> int:
        """The last step that has a number."""
        return int(max((curve.steps[-1] for curve in self.curves.values()), default=0))

    @classmethod
    def read(cls, folder: str | Path) -> ReportedRun:
        """Read a run folder. A record or a line that cannot be read is passed over, and said.

        Raises:
            RunFileError: the folder holds no run.
        """
        folder = expanded(folder)
        missing = [name for name in RECORDS if not exists(folder / name)]
        if METRICS in missing and PLUGINS in missing:
            found = f"it has neither {METRICS} nor {PLUGINS}" if exists(folder) else "there is no such folder"
            raise RunFileError(f"there is no run to report on in {printable(folder)}: {found}. Give the folder of a run.")
        passed_over = PassedOver()

        def read(name: str, reads: Callable[[Path], Any], otherwise: Any) -> Any:
            return otherwise if name in missing else passed_over.reading(folder / name, reads, otherwise)

        text = read(RUN_FILE, read_text, "")
        return cls(
            folder,
            curves=read(METRICS, lambda path: _curves(path, passed_over), {}),
            samples=read(SAMPLES, lambda path: [line for _, line in passed_over.lines_of(path)], []),
            history=history(folder),
            plugins=read(PLUGINS, read_plugins, {}),
            tables=passed_over.reading(folder / RUN_FILE, lambda _: tomllib.loads(text), {}),
            run_file=escaped(text),
            missing=missing,
            passed_over=passed_over,
        )


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell the runs apart, such as `ppo/seed-0` and `ppo/seed-1`."""
    parts = [folder.absolute().parts for folder in folders]
    length = next(
        (n for n in range(1, max(map(len, parts)) + 1) if len({part[-n:] for part in parts}) == len(set(parts))), 1
    )
    return [escaped("/".join(part[-length:])) for part in parts]


def _curves(path: Path, passed_over: PassedOver) -> dict[str, Curve]:
    columns: dict[str, tuple[list[float], list[float | None]]] = {}
    last = float("-inf")
    for number, line in passed_over.lines_of(path):
        step = line.get("step")
        if not is_number(step) or step < last:
            found = f"its step is {printable(step)}, and the one before {last:g}" if is_number(step) else "it has no step"
            told = f"{found}. A run counts its steps upwards: correct the line, or delete it."
            passed_over.tell(path, f"{printable(path)}, line {number}: {told}")
            continue
        last = step
        for name, value in line.items():
            if name != "step" and (value is None or is_number(value)):
                if name not in columns:
                    columns[name] = ([], [])
                steps, values = columns[name]
                steps.append(step)
                values.append(value)
    return {name: Curve(*column) for name, column in columns.items()}


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value from a record is a finite number that can be drawn. Integers may be beyond all floats."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
