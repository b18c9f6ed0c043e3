"""The process of a completion's code: started, read within limits, and ended with everything that it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from plugrad_environments.side.reading import NotInTime, read_all

RUNNER = Path(__file__).with_name("code_runner.py")


def written_by(task: Mapping[str, Any], until: float, most: int) -> tuple[bytes, int] | None:
    """Run a task of `code_runner`; return what it wrote and its exit status.

    Args:
        task: what to run.
        until: the time, on the monotonic clock, when it is ended.
        most: bytes that it may write.

    Returns:
        None if it wrote more or took longer.
    """
    with tempfile.TemporaryDirectory(prefix="plugrad_code_", ignore_cleanup_errors=True) as folder:
        process = _started(json.dumps(task).encode(), folder)
        try:
            assert process.stdout is not None
            found = read_all(process.stdout.fileno(), until, most)
            return found, process.wait(max(until - time.monotonic(), 0.01))
        except (NotInTime, subprocess.TimeoutExpired):
            return None
        finally:
            _end(process)


def _started(task: bytes, folder: str) -> subprocess.Popen[bytes]:
    # A file has no other end that could wait.
    with tempfile.TemporaryFile() as given:
        given.write(task)
        given.seek(0)
        return subprocess.Popen(
            [sys.executable, "-I", str(RUNNER)],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            # Not the keys that the trainer's environment may hold.
            env={"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    # Also those that the code started, and left running.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
