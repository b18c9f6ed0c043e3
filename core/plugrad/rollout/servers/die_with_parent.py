"""Run a command only as long as its parent process lives: `python die_with_parent.py PID COMMAND...`.

A killed trainer cannot stop its servers. This process can, so no server stays behind on a device. It runs as a script and
uses only the standard library.
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

POLL_INTERVAL_S = 0.25
GRACE_S = 15.0
IS_LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG = 1
"""From Linux's <sys/prctl.h>."""


def run_while_parent_lives(parent: int, command: Sequence[str]) -> int:
    """Run the command until it exits, the parent is gone, or this process gets SIGTERM or SIGINT.

    Returns:
        The command's exit code, as a shell reports it.
    """
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: received.append(number))
    # In a session of its own, the command does not get a Ctrl-C in the trainer's terminal, which the trainer handles, and
    # all its processes can be killed together.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # Safe, since this process has one thread.
        preexec_fn=_request_sigterm_on_parent_death if IS_LINUX else None,  # noqa: PLW1509
    )
    while process.poll() is None and not received and os.getppid() == parent:
        time.sleep(POLL_INTERVAL_S)
    _stop(process)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _request_sigterm_on_parent_death() -> None:
    """Have Linux send the command SIGTERM if this process is killed and cannot do so itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the command and everything it started: SIGTERM first, SIGKILL after a grace period."""
    if process.poll() is None:
        # Only the first process: vLLM's ends its others in order.
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    # All of them may have exited.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    sys.exit(run_while_parent_lives(int(sys.argv[1]), sys.argv[2:]))
