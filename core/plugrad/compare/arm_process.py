"""Check the arms of a comparison; run as `python -P -m plugrad.compare.arm_process FOLDER`."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from plugrad.compare.checking import ARM, RESULTS, TASK, CheckedArm, CheckResults, message_of
from plugrad.config.rank_shares import check_shares
from plugrad.config.run_file import RunFile
from plugrad.errors import PlugradError
from plugrad.host.environment import BoundEnvironment
from plugrad.host.select import resolved
from plugrad.registry.provenance import record
from plugrad.trainer.checked_plugins import check_plugins

logger = logging.getLogger("plugrad")


def main(folder: Path) -> None:
    """Check the arms of the task in `folder`, and write the results there."""
    run_files, num_processes = pickle.loads((folder / TASK).read_bytes())
    results = check_each(run_files, num_processes, lambda arm: (folder / ARM).write_text(arm, encoding="utf-8"))
    partial = folder / f"{RESULTS}.partial"
    partial.write_bytes(pickle.dumps(results))
    partial.replace(folder / RESULTS)
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread that a plugin has left must not keep the process alive.
    os._exit(0)


def check_each(run_files: Mapping[str, RunFile], num_processes: int, is_at: Callable[[str], object]) -> CheckResults:
    """Check every arm, calling `is_at` with its name first."""
    results, environments = CheckResults(), dict[str, BoundEnvironment]()
    logger.propagate = False
    logger.setLevel(logging.INFO)
    for name, run_file in run_files.items():
        is_at(name)
        logger.handlers[:] = [_Collector(results.notices, name)]
        try:
            check_shares(run_file, num_processes)
            key = run_file.environment.model_dump_json()
            # Arms with the same environment load its examples once.
            create = BoundEnvironment.create if key not in environments else lambda _, key=key: environments[key]
            selection, environments[key], _ = check_plugins(run_file, create)
            plugins = {"num_processes": num_processes, **record(selection.components(), selection.of_sets)}
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
