"""Every arm is checked before the first run starts: a misspelt name in the third costs seconds, and not two runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

from plugrad.config.run_file import RunFile
from plugrad.errors import PluginError, PlugradError, RunFileError

logger = logging.getLogger("plugrad")

UNTOLD_OF_A_COMPONENT = ("reference", "location")


@dataclass(frozen=True)
class Checked:
    """An arm that can be run."""

    run_file: RunFile
    """With every option and reference written out."""
    plugins: Mapping[str, Any]
    """The record of what was resolved, as a run's `plugins.json` has it."""

    @property
    def identity(self) -> str:
        """What makes a run: the same for two ways to write the same arm."""
        tables = self.run_file.model_dump(mode="json", exclude={"seed", "output_dir"})
        for part in (table for value in tables.values() for table in (value if isinstance(value, list) else [value])):
            if isinstance(part, dict) and "kwargs" in part:
                del part["name"]
        components = [
            {key: value for key, value in component.items() if key not in UNTOLD_OF_A_COMPONENT}
            for component in self.plugins["components"]
        ]
        return json.dumps([tables, components], sort_keys=True, default=repr)


@dataclass
class Verdicts:
    """What came of checking the arms."""

    checked: dict[str, Checked] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)
    notices: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    """Level and text of what was logged, each once, and for which arms."""


def check(run_files: Mapping[str, RunFile], num_processes: int) -> Verdicts:
    """Select and try what every run file names, in a process of its own, which no plugin and no device outlives.

    Raises:
        PluginError: a plugin ended that process.
    """
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            verdicts = pool.submit(_verdicts, dict(run_files), num_processes).result()
    except BrokenProcessPool as error:
        raise PluginError(
            "a plugin of one of the arms ended the process in which they were tried. Try `plugrad plugins show` on each."
        ) from error
    for (level, message), arms in verdicts.notices.items():
        logger.log(level, "%s", message if len(arms) == len(run_files) else f"{', '.join(arms)}: {message}")
    return verdicts


def refuse(complaints: Mapping[str, str], num_arms: int) -> None:
    """Say what is wrong with the arms, if anything is.

    Raises:
        RunFileError: naming every arm that cannot be run.
    """
    if complaints:
        said = [f"{name}: {complaint}".replace("\n", "\n    ") for name, complaint in complaints.items()]
        which = f"{len(said)} of {num_arms} arms" if num_arms > 1 else "the arm"
        raise RunFileError("\n    ".join([f"{which} cannot be run, and nothing was started:", *said]))


def refuse_twins(checked: Mapping[str, Checked]) -> None:
    """Check that no two arms are the same.

    Raises:
        RunFileError: two are.
    """
    seen: dict[str, str] = {}
    for name, arm in checked.items():
        twin = seen.setdefault(arm.identity, name)
        if twin != name:
            raise RunFileError(f"the arms {twin!r} and {name!r} are the same run. Leave one out.")


def said(error: PlugradError) -> str:
    """Return an error as the command line says it."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


def _verdicts(run_files: dict[str, RunFile], num_processes: int) -> Verdicts:
    from plugrad.config.processes import check_shares
    from plugrad.host.environment import BoundEnvironment
    from plugrad.host.preflight import preflight
    from plugrad.host.select import resolved, select
    from plugrad.registry.provenance import record

    verdicts, environments = Verdicts(), dict[str, BoundEnvironment]()
    logger.propagate = False
    logger.setLevel(logging.INFO)
    for name, run_file in run_files.items():
        logger.handlers[:] = [_Collector(verdicts.notices, name)]
        try:
            check_shares(run_file, num_processes)
            selection = select(run_file)
            # Arms that differ elsewhere read the same examples once.
            key = run_file.environment.model_dump_json()
            environments[key] = environments.get(key) or BoundEnvironment.create(selection.environment)
            preflight(selection, environments[key], run_file.rollout.rollouts_per_example, run_file.preflight_timeout_s)
            verdicts.checked[name] = Checked(resolved(run_file, selection), record(selection.components()))
        except PlugradError as error:
            verdicts.complaints[name] = said(error)
    return verdicts


class _Collector(logging.Handler):
    """Keeps what is logged while an arm is tried."""

    def __init__(self, notices: dict[tuple[int, str], list[str]], arm: str) -> None:
        super().__init__()
        self._notices, self._arm = notices, arm

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        arms = self._notices.setdefault((record.levelno, record.getMessage()), [])
        if self._arm not in arms:
            arms.append(self._arm)
