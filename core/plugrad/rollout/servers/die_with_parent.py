"""Runs a command for as long as the process that asked for it lives: `python die_with_parent.py PID COMMAND...`.

A trainer that is killed cannot stop its servers; this can, and no server stays behind on a device. It runs by itself, with
nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

LOOKS_EVERY_S = 0.25
GRACE_S = 15.0
IS_LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
"""Of Linux's <sys/prctl.h>."""


def keep(owner: int, command: Sequence[str]) -> int:
    """Run the command until it ends, the owner is gone, or this process is told to stop. Return its code as shells do."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: told.append(number))
    # A session of its own: a Ctrl-C in the trainer's terminal is the trainer's to answer, and all of a server's processes
    # can be ended together.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # Safe, since this process has one thread.
        preexec_fn=_die_with_parent if IS_LINUX else None,  # noqa: PLW1509
    )
    while process.poll() is None and not told and os.getppid() == owner:
        time.sleep(LOOKS_EVERY_S)
    _end(process)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _die_with_parent() -> None:
    """Have Linux send this process SIGTERM when the keeper has gone: killed, it could not do so itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and whatever it started: asked first, killed after a while."""
    if process.poll() is None:
        # The first process alone: vLLM's ends its others in their order.
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    # There may be nobody left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), sys.argv[2:]))
