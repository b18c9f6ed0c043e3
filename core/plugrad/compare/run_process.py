"""A run as a process of its own: whatever becomes of it, the others are not lost."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from plugrad.compare.planned_run import Outcome, PlannedRun, last_step

LOOKS_EVERY_S = 0.2
GRACE_S = 5.0
"""From asking a run to end until it is made to."""
ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*")
OUR_NOTICE = "Note: "


def run_to_its_end(run: PlannedRun, num_processes: int | None, lock: int | None, look: Callable[[], None]) -> Outcome:
    """Train the run in a process of its own, calling `look` while it goes on; return how it ended.

    The process holds the comparison's lock: nobody starts another beside it, even when this process has gone.
    On Ctrl-C, or whatever else comes out of `look`, the run is ended first.
    """
    run.start_afresh()
    started = time.monotonic()
    with run.log.open("wb") as log:
        process = subprocess.Popen(
            _command(run, num_processes),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            # Ctrl-C in the terminal is for the comparison, which ends the run.
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                look()
                time.sleep(LOOKS_EVERY_S)
        finally:
            _end(process)
    error = reason(run.log, process.returncode) if process.returncode else None
    outcome = Outcome(process.returncode, last_step(run.records), round(time.monotonic() - started, 2), error)
    run.write(outcome)
    return outcome


def reason(log: Path, exit_code: int) -> str:
    """Return the line that says why a run failed: the last of its log that reads like an error, or else the last."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    if exit_code < 0 and not errors:
        name = signal.Signals(-exit_code).name
        return f"ended by {name}" + (": the system does so most often for want of memory" if name == "SIGKILL" else "")
    said = [line for line in lines if not line.startswith(OUR_NOTICE)]
    return [f"exit code {exit_code}", *said, *errors][-1]


def _command(run: PlannedRun, num_processes: int | None) -> list[str]:
    # Without -P the working directory would come first on the path: a rollout could take the place of a package.
    command = [sys.executable, "-P", "-m", "plugrad", "train", str(run.run_file)]
    command += ["--set", f"seed={run.seed}", "--set", f"output_dir={run.folder}"]
    return command if num_processes is None else [*command, "--num-processes", str(num_processes)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that is still there, and wait for it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    finally:
        process.kill()
        process.wait()
