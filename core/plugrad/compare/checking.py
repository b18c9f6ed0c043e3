"""Check every arm before the first run starts: a misspelt name in the third arm costs seconds and not two runs."""

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
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_results, args=(sender, dict(run_files), num_processes))
    with _no_interrupts():
        process.start()
    sender.close()
    try:
        results: CheckResults = receiver.recv()
    except EOFError as error:
        raise PluginError(
            "a plugin of one of the arms ended the process that checked them. Run `plugrad plugins show` on each."
        ) from error
    finally:
        process.kill()
        process.join()
    for (level, message), arms in results.notices.items():
        logger.log(level, "%s", message if len(arms) == len(run_files) else f"{', '.join(arms)}: {message}")
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


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while a process starts: until it handles the signal itself, it would print a traceback."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _send_results(sender: Connection, run_files: dict[str, RunFile], num_processes: int) -> None:
    # Ctrl-C in the terminal goes to the comparison, which ends this process.
    if hasattr(os, "setsid"):
        os.setsid()
    sender.send(_check_each(run_files, num_processes))


def _check_each(run_files: dict[str, RunFile], num_processes: int) -> CheckResults:
    from plugrad.config.rank_shares import check_shares
    from plugrad.host.environment import BoundEnvironment
    from plugrad.host.preflight import preflight
    from plugrad.host.select import resolved, select
    from plugrad.registry.provenance import record
    from plugrad.trainer.texts_for_trial import trial_texts

    results, environments = CheckResults(), dict[str, BoundEnvironment]()
    logger.propagate = False
    logger.setLevel(logging.INFO)
    for name, run_file in run_files.items():
        logger.handlers[:] = [_Collector(results.notices, name)]
        try:
            check_shares(run_file, num_processes)
            selection = select(run_file)
            # Arms with the same environment load its examples once.
            key = run_file.environment.model_dump_json()
            environments[key] = environments.get(key) or BoundEnvironment.create(selection.environment)
            texts = trial_texts(run_file, environments[key])
            limit_s, rollouts_per_example = run_file.preflight_timeout_s, run_file.rollout.rollouts_per_example
            preflight(selection, environments[key], rollouts_per_example, limit_s, texts)
            plugins = {"num_processes": num_processes, **record(selection.components())}
            results.checked[name] = CheckedArm(resolved(run_file, selection), plugins)
        except PlugradError as error:
            results.complaints[name] = message_of(error)
    return results


class _Collector(logging.Handler):
    """Collects what is logged while an arm is checked."""

    def __init__(self, notices: dict[tuple[int, str], list[str]], arm: str) -> None:
        super().__init__()
        self._notices, self._arm = notices, arm

    def emit(self, record: logging.LogRecord) -> None:
        """Add a message."""
        arms = self._notices.setdefault((record.levelno, record.getMessage()), [])
        if self._arm not in arms:
            arms.append(self._arm)
