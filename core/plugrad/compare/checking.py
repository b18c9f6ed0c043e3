"""Every arm is checked before the first run starts: a misspelt name in the third costs seconds, and not two runs."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
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
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_verdicts, args=(sender, dict(run_files), num_processes))
    with _no_interrupts():
        process.start()
    sender.close()
    try:
        verdicts: Verdicts = receiver.recv()
    except EOFError as error:
        raise PluginError(
            "a plugin of one of the arms ended the process in which they were tried. Try `plugrad plugins show` on each."
        ) from error
    finally:
        process.kill()
        process.join()
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


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Let a process start with Ctrl-C ignored: until it has taken care of that itself, it would print a traceback."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _send_verdicts(sender: Connection, run_files: dict[str, RunFile], num_processes: int) -> None:
    # Ctrl-C in the terminal is for the comparison, which ends this process.
    if hasattr(os, "setsid"):
        os.setsid()
    sender.send(_verdicts(run_files, num_processes))


def _verdicts(run_files: dict[str, RunFile], num_processes: int) -> Verdicts:
    from plugrad.config.rank_shares import check_shares
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
            plugins = {"num_processes": num_processes, **record(selection.components())}
            verdicts.checked[name] = Checked(resolved(run_file, selection), plugins)
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
