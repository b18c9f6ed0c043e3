"""Start all ranks again where one was lost: from the last checkpoint, and not because of a plugin's error."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import environ
from pathlib import Path

from plugrad.errors import PlugradError, TrainingError
from plugrad.launcher_watch import LAUNCH_FOLDER
from plugrad.trainer.checkpoints.checkpoint_folder import steps_in
from plugrad.trainer.ranks.launch import MAY_PASS, Ended, launch
from plugrad.trainer.record.history import RESTARTED, note
from plugrad.trainer.record.replaced_run import REPLACED

LONGEST_WAIT_S = 60.0
"""Before a restart. The first ones come sooner; a server that is coming back needs a while."""

logger = logging.getLogger("plugrad")


def launch_again(
    arguments: Sequence[str],
    num_processes: int,
    folder: Path,
    max_restarts: int,
    *,
    start: Callable[[Sequence[str], int], Ended] = launch,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Run `plugrad ARGUMENTS` in several processes, and again where that may help; return the exit code.

    Args:
        arguments: of `plugrad train`, as a user gives them.
        num_processes: how many there are.
        folder: the run folder, whose `history.jsonl` says what was restarted and why.
        max_restarts: how often all of them are started again.
        start: starts them and waits for their end.
        wait: waits some seconds.

    Raises:
        TrainingError: a rank was lost, and none may be started again.
    """
    for restart in range(1, max_restarts + 1):
        try:
            ended = start(arguments, num_processes)
            if not (ended.exit_code and ended.may_pass):
                return ended.exit_code
            why = "the servers were lost"
        except TrainingError as lost:
            if not lost.may_pass:
                raise
            why = str(lost)
        arguments = _going_on(arguments, folder)
        step = next(iter(steps_in(folder)), 0) if "--resume" in arguments else 0
        where = f"after step {step}" if step else "at the beginning"
        logger.warning("Restart %d of %d, %s: %s", restart, max_restarts, where, why)
        if folder.is_dir():
            note(folder, RESTARTED, step, restart=restart, max_restarts=max_restarts, why=why)
        wait(min(LONGEST_WAIT_S, 2.0 ** (restart - 1)))
    return start(arguments, num_processes).exit_code


@contextmanager
def telling_the_launcher() -> Iterator[None]:
    """Leave word for plugrad's launcher, if it started this rank, where the run fails for a reason that may pass."""
    try:
        yield
    except PlugradError as error:
        if error.may_pass and LAUNCH_FOLDER in environ:
            with suppress(OSError):
                (Path(environ[LAUNCH_FOLDER]) / MAY_PASS).touch()
        raise


def _going_on(arguments: Sequence[str], folder: Path) -> list[str]:
    """Return the arguments with which the run goes on."""
    if (folder / REPLACED).exists():
        # It replaces an earlier run, has not done a step, and would go on from that.
        return list(arguments)
    return [*(each for each in arguments if each not in ("--overwrite", "--resume")), "--resume"]
