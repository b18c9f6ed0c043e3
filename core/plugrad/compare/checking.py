"""Check every arm before the first run starts: a misspelt name in the third arm costs seconds and not two runs."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plugrad.config.run_file import RunFile
from plugrad.errors import PluginError, PlugradError, RunFileError
from plugrad.processes import PYTHON, environment_with_own_path, how_it_ended

logger = logging.getLogger("plugrad")

TASK, RESULTS, ARM = "task.pickle", "results.pickle", "arm"
"""In the folder that the process works in: what it is given, what it returns, and the arm that it is at."""
NOT_PART_OF_IDENTITY = ("reference", "location")


@dataclass(frozen=True)
class CheckedArm:
    """An arm that passed every check."""

    run_file: RunFile
    """With every option and reference written out."""
    plugins: Mapping[str, Any]
    """The record of the plugins, in the form of a run's `plugins.json`."""

    @property
    def identity(self) -> str:
        """What determines a run. Two ways to write the same arm have the same identity."""
        tables = self.run_file.model_dump(mode="json", exclude={"seed", "output_dir"})
        for part in (table for value in tables.values() for table in (value if isinstance(value, list) else [value])):
            if isinstance(part, dict) and "kwargs" in part:
                del part["name"]
        components = [
            {key: value for key, value in component.items() if key not in NOT_PART_OF_IDENTITY}
            for component in self.plugins["components"]
        ]
        return json.dumps([tables, components], sort_keys=True, default=repr)


@dataclass
class CheckResults:
    """The results of checking the arms."""

    checked: dict[str, CheckedArm] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    notices: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    """Level and text of each logged message, with the arms that logged it."""


def check(run_files: Mapping[str, RunFile], num_processes: int) -> CheckResults:
    """Select and try what every run file names, in a separate process, so that no plugin and no device stays loaded.

    Raises:
        PluginError: a plugin ended that process.
    """
    with TemporaryDirectory(prefix="plugrad-compare-") as folder:
        results = _in_a_process(Path(folder), pickle.dumps((dict(run_files), num_processes)))
    for (level, message), arms in results.notices.items():
        logger.log(level, "%s", message if len(arms) == len(run_files) else f"{', '.join(arms)}: {message}")
    return results


def _in_a_process(folder: Path, task: bytes) -> CheckResults:
    (folder / TASK).write_bytes(task)
    process = subprocess.Popen(
        [*PYTHON, "-m", "plugrad.compare.arm_process", str(folder)],
        stdin=subprocess.DEVNULL,
        env=environment_with_own_path(),
        # Ctrl-C in the terminal goes to the comparison, which ends this process.
        start_new_session=True,
    )
    try:
        exit_code = process.wait()
    finally:
        process.kill()
        process.wait()
    if not (folder / RESULTS).exists():
        arm = (folder / ARM).read_text(encoding="utf-8") if (folder / ARM).exists() else "?"
        raise PluginError(
            f"a plugin of the arm {arm!r} ended the process that checked it ({how_it_ended(exit_code)}). `plugrad check` "
            "finds out which one and where."
        )
    results: CheckResults = pickle.loads((folder / RESULTS).read_bytes())
    return results


def refuse_broken(complaints: Mapping[str, str], num_arms: int) -> None:
    """Check that no arm has a complaint.

    Raises:
        RunFileError: names every arm that cannot be run, with its complaint.
    """
    if complaints:
        listed = [f"{name}: {complaint}".replace("\n", "\n    ") for name, complaint in complaints.items()]
        which = f"{len(listed)} of {num_arms} arms" if num_arms > 1 else "the arm"
        raise RunFileError("\n    ".join([f"{which} cannot be run, and nothing was started:", *listed]))


def refuse_twins(checked: Mapping[str, CheckedArm]) -> None:
    """Check that no two arms are the same run.

    Raises:
        RunFileError: two are.
    """
    seen: dict[str, str] = {}
    for name, arm in checked.items():
        twin = seen.setdefault(arm.identity, name)
        if twin != name:
            raise RunFileError(f"the arms {twin!r} and {name!r} are the same run. Leave one out.")


def message_of(error: PlugradError) -> str:
    """Return an error as the command line prints it."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
