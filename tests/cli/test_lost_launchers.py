"""What becomes of the ranks of a run when its launcher is killed, or its terminal goes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

LONG = ("train", "run.toml", "--set", "max_steps=100000", "--num-processes", "2")
WAITS_S = 120


@pytest.fixture
def launched(folder):
    """Start a run in two processes; whatever is left of it at the end of the test is killed."""
    started = []

    def start(**options):
        command = [sys.executable, "-m", "plugrad", *LONG]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(command, env=environment, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    for number in processes_in(folder):
        os.kill(number, signal.SIGKILL)


def processes_in(folder):
    """Return the living processes, other than this one, whose working directory is this one."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if (process / "cwd").resolve() == folder and state != "Z":
                    found.append(int(process.name))
            except OSError:
                continue
    return found


def wait_until(is_so):
    deadline = time.monotonic() + WAITS_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metrics(folder):
    path = folder / "runs" / "run" / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_ranks_whose_launcher_is_killed_while_they_start_end(launched, folder):
    launcher = launched()
    # The launcher and two ranks, however far they are.
    wait_until(lambda: len(processes_in(folder)) == 3)
    launcher.kill()
    launcher.wait()
    wait_until(lambda: not processes_in(folder))
    assert not (folder / "runs" / "run" / "model").exists()


@pytest.mark.slow
def test_ranks_whose_launcher_is_killed_in_training_save_the_model(launched, folder):
    with (folder / "errors.txt").open("w") as errors:
        launcher = launched(stderr=errors)
    wait_until(lambda: metrics(folder))
    launcher.kill()
    launcher.wait()
    wait_until(lambda: not processes_in(folder))
    said = (folder / "errors.txt").read_text()
    assert said.count("the launcher of this run is gone") == 1, said
    assert f"Stopped by SIGTERM after step {json.loads(metrics(folder)[-1])['step']}" in said
    assert (folder / "runs" / "run" / "model" / "config.json").is_file(), said
    assert "Traceback" not in said


@pytest.mark.slow
def test_ranks_whose_terminal_is_closed_save_the_model(launched, folder):
    ours, theirs = os.openpty()

    def in_the_terminal():
        os.setsid()
        terminal = os.open(os.ttyname(theirs), os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(terminal, number)

    launcher = launched(preexec_fn=in_the_terminal)
    os.close(theirs)

    def has_a_step():
        # Otherwise the terminal is full one day, and the run waits.
        os.set_blocking(ours, False)
        with suppress(BlockingIOError):
            os.read(ours, 10_000)
        return metrics(folder)

    wait_until(has_a_step)
    # The system sends SIGHUP to the launcher alone: each rank is the leader of a session of its own.
    os.close(ours)
    assert launcher.wait(timeout=WAITS_S) == 129
    wait_until(lambda: not processes_in(folder))
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR1])
def test_a_warning_of_slurms_reaches_the_ranks(launched, folder, number):
    launcher = launched(stderr=subprocess.PIPE, text=True)
    wait_until(lambda: metrics(folder))
    launcher.send_signal(number)
    errors = launcher.communicate(timeout=WAITS_S)[1]
    assert launcher.returncode == 128 + number, errors
    assert f"Stopped by {number.name} after step" in errors
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()
    assert "Traceback" not in errors


def rank_one(folder):
    """Return the process of rank 1."""
    return next(n for n in processes_in(folder) if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{n}/environ").read_bytes())


def has_signal_pending(process, number):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    pending = next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))
    return bool(pending >> (number - 1) & 1)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_run_with_a_rank_that_is_stopped(launched, folder):
    launcher = launched(stderr=subprocess.PIPE, text=True)
    wait_until(lambda: metrics(folder))
    stopped = rank_one(folder)
    os.kill(stopped, signal.SIGSTOP)
    launcher.send_signal(signal.SIGINT)
    # It has been passed on.
    wait_until(lambda: has_signal_pending(stopped, signal.SIGINT))
    launcher.send_signal(signal.SIGINT)
    errors = launcher.communicate(timeout=WAITS_S)[1]
    assert launcher.returncode == 130, errors
    assert f"Rank 1 (process {stopped}) did not end within 10 s: killed." in errors
    assert not processes_in(folder)
