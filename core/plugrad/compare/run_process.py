"""Train a run in its own process, so that its failure does not affect the others."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from plugrad.compare.planned_run import Outcome, PlannedRun, damage_of, last_event, last_step, read_records
from plugrad.paths import open_bytes
from plugrad.processes import PYTHON, environment, how_it_ended
from plugrad.trainer.record.history import FINISHED
from plugrad.trainer.record.run_folder import MODEL

POLL_INTERVAL_S = 0.2
GRACE_S = 5.0
"""Time between asking a run to end and killing it."""
ERROR = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b.*")
OUR_NOTICE = "Note: "
END_OF_LOG, LONGEST_LINE = 2**20, 2000
"""Bytes of a log, and characters of its lines, that are searched for the reason."""


def run_in_process(
    run: PlannedRun,
    num_processes: int | None,
    lock: int | None,
    update: Callable[[], None],
    stopping: Callable[[], None] = lambda: None,
) -> Outcome:
    """Train the run in its own process, from its newest checkpoint if it has one. Return how it ended.

    The process holds the comparison's lock, so no other comparison starts here even if this process is killed.
    Ctrl-C lets the run finish its step and write a checkpoint, and a second one ends it at once. If `update` raises, the
    run is ended first.

    `update` is called while the run is going on, and `stopping` once it has been asked to stop, before the wait for it.
    """
    goes_on = bool(run.kept_step)
    if goes_on:
        run.go_on()
    else:
        run.start_afresh()
    started = time.monotonic()
    with open_bytes(run.log, "ab") as log:
        before = log.tell()
        process = subprocess.Popen(
            _command(run, num_processes, goes_on=goes_on),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            # Ctrl-C in the terminal goes to the comparison, which ends the run.
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                update()
                time.sleep(POLL_INTERVAL_S)
        except KeyboardInterrupt:
            process.terminate()
            stopping()
            process.wait()
            raise
        finally:
            _end(process)
    error = failure_reason(run.log, process.returncode, before) if process.returncode else _is_incomplete(run)
    outcome = Outcome(process.returncode, last_step(read_records(run.folder)), round(time.monotonic() - started, 2), error)
    run.write(outcome)
    return outcome


def _is_incomplete(run: PlannedRun) -> str | None:
    """Return what a run lacks whose process ended with exit code 0; None if nothing."""
    if not (run.folder / MODEL).is_dir():
        return "something in it ended its process, with exit code 0 and without its model: most often, a plugin"
    # A run that was stopped has a model too.
    if last_event(run.folder).get("event") != FINISHED:
        return "something in it ended its process, with exit code 0 and before its end: most often, a plugin"
    return damage_of(run.folder)


def failure_reason(log: Path, exit_code: int, start: int = 0) -> str:
    """Return the line that tells why a run failed: the last in its log that looks like an error, or else the last.

    What stands before `start` bytes is of an earlier process.
    """
    with open_bytes(log, "rb") as file:
        file.seek(max(start, file.seek(0, 2) - END_OF_LOG))
        text = file.read().decode(errors="replace")
    lines = [line.strip()[:LONGEST_LINE] for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    if exit_code < 0 and not errors:
        name = how_it_ended(exit_code)
        return f"ended by {name}" + (": most often, the machine is out of memory" if name == "SIGKILL" else "")
    output = [line for line in lines if not line.startswith(OUR_NOTICE)]
    return [f"exit code {exit_code}", *output, *errors][-1]


def _command(run: PlannedRun, num_processes: int | None, *, goes_on: bool) -> list[str]:
    command = [*PYTHON, "-m", "plugrad", "train", str(run.run_file)]
    command += ["--set", f"seed={run.seed}", "--set", f"output_dir={run.folder}"]
    command += ["--resume"] if goes_on else []
    return command if num_processes is None else [*command, "--num-processes", str(num_processes)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that is still running, and wait for it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    finally:
        process.kill()
        process.wait()
