"""The process in which the component of `plugrad check` runs: `python -P -m plugrad.cli.check_worker FOLDER PARENT`."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import typer

from plugrad.cli.check import check
from plugrad.cli.check_process import ARGUMENTS, ENDED, INTERRUPTED, RAISED, STACK, run_checks_here, write_whole
from plugrad.shown import text_of
from plugrad.testing.workers import fork_nursery


def _end_with(parent: int) -> None:
    """End this process, and what it has started, if the one that started it has gone."""
    while os.getppid() == parent:
        time.sleep(1)
    # With the ranks that a check has started: this process leads a session of its own.
    os.killpg(0, signal.SIGKILL)


def _note_exception(error: BaseException, folder: Path) -> None:
    (folder / RAISED).write_text(f"it raised {type(error).__name__}: {text_of(error)}".removesuffix(": "), encoding="utf-8")
    frames = [f'File "{frame.filename}", line {frame.lineno}\n' for frame in traceback.extract_tb(error.__traceback__)]
    (folder / STACK).write_text("".join(reversed(frames)), encoding="utf-8")


def main(folder: Path, parent: int) -> None:
    """Run the checks, and note that they came to their end."""
    fork_nursery()
    run_checks_here(folder)
    stack = (folder / STACK).open("w", encoding="utf-8")
    faulthandler.enable(stack)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR1, stack)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    arguments = json.loads((folder / ARGUMENTS).read_text(encoding="utf-8"))
    code = 0
    try:
        check(**arguments)
    except typer.Exit as end:
        code = end.exit_code
    except BaseException as error:
        _note_exception(error, folder)
        raise
    sys.stdout.flush()
    sys.stderr.flush()
    if code != INTERRUPTED:
        write_whole(folder / ENDED, str(code))
    # A thread that the component has left must not keep the process alive.
    os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
