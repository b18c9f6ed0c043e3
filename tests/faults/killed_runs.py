"""Runs in processes that are killed, and what is compared of them in the end."""

import importlib
import json
import os
import posix
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

import torch

HERE = Path(__file__).parent
STEPS = 60
PATIENCE_S = 300
OF_THE_MACHINE = ("seconds", "rollouts_s", "tokens_per_s", "memory_gib")
RUN_FILE = f"""
max_steps = {STEPS}
search_paths = ["{HERE}", "."]

[model.from_scratch]
model_type = "qwen3"
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
head_dim = 16

[environment]
name = "jsonl"
kwargs = {{ path = "sums.jsonl", reward = "remembering.py:ones" }}

[advantage]
name = "remembering.py:Running"

[[loss]]
name = "remembering.py:Moody"

[[extension]]
name = "remembering.py:Fewer"

[rollout]
prompts_per_step = 4
rollouts_per_example = 4
max_new_tokens = 4

[optimizer]
lr = 1e-3

[checkpoint]
every_steps = 1
"""


def write_run_file(folder):
    """Write a run file and its examples into a folder."""
    lines = [json.dumps({"prompt": f"{i}+{j}=", "reference": str(i + j)}) for i in range(6) for j in range(6)]
    (folder / "sums.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "run.toml").write_text(RUN_FILE.replace('"."', f'"{folder}"'))


class Process:
    """A command, `plugrad train run.toml`, with a run folder of its own, in a session of its own."""

    def __init__(self, folder, run, *arguments):
        self.errors, self.run, self.returncode = folder / f"{run.name}.errors.txt", run, None
        self.began = time.monotonic()
        self.pid = self._start(["train", str(folder / "run.toml"), "--set", f"output_dir={run}", *arguments])

    def _start(self, arguments):
        with self.errors.open("w") as errors:
            command = [sys.executable, "-P", "-m", "plugrad", *arguments]
            self._popen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        return self._popen.pid

    def poll(self):
        """Return the exit code, or None while the command runs."""
        if self.returncode is None:
            self.returncode = self._popen.poll()
        return self.returncode

    def wait_for(self, is_so):
        """Wait until something is so, or the command has ended; return whether it is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, self.said
            if self.poll() is not None:
                return False
            time.sleep(0.001)
        return True

    def wait(self):
        """Wait for its end; return its exit code."""
        self.wait_for(lambda: False)
        return self.returncode

    @property
    def said(self):
        """What it has printed as errors and warnings."""
        return self.errors.read_text(errors="replace")

    @property
    def ranks(self):
        """The processes that it has started, and those that these have."""
        return descendants(self.pid)

    def kill(self, *, spares_ranks=False):
        """Kill everything at once, or only the command itself; wait until all processes are gone."""
        ranks = self.ranks
        if self.poll() is None:
            for process in [self.pid] if spares_ranks else [self.pid, *ranks]:
                kill(process)
        self.wait()
        deadline = time.monotonic() + PATIENCE_S
        while any(map(is_alive, ranks)):
            if time.monotonic() > deadline:
                for rank in ranks:
                    kill(rank)
                raise AssertionError(f"ranks outlived their launcher: {ranks}")
            time.sleep(0.01)


class Fork(Process):
    """The same in a fork of this process, which has imported everything already: for runs in one process."""

    def _start(self, arguments):
        # Here once, and not in every fork.
        importlib.import_module("plugrad.trainer.train")
        from plugrad.cli.main import main

        with warnings.catch_warnings():
            # That the other threads are not copied.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            os.setsid()
            # OpenMP's threads are not copied either.
            torch.set_num_threads(1)
            for number, path in ((1, os.devnull), (2, self.errors)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))  # noqa: SIM115
            sys.argv = ["plugrad", *arguments]
            code = _end_of(main)
            # Python does so at its end.
            threading._shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            posix._exit(code)

    def poll(self):
        """Return the exit code, or None while the command runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def _end_of(main):
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 99
    return 0


def kill(process):
    """Kill a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def descendants(process):
    """Return the processes that a process has started, and those that these have."""
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{process}/task").iterdir()]
    except OSError:
        return []
    children = [int(child) for text in lists for child in text.split()]
    return [each for child in children for each in (child, *descendants(child))]


def is_alive(process):
    """Return whether a process does anything yet: one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def checkpoints_in(run):
    """Return the names of the whole checkpoints of a run, in order, and those of what is not whole."""
    try:
        names = sorted(os.listdir(run / "checkpoints"))
    except OSError:
        return [], []
    return [name for name in names if name[0] != "."], [name for name in names if name[0] == "."]


def newest_in(run):
    """Return the name of the newest checkpoint of a run, or "" if there is none."""
    return (checkpoints_in(run)[0] or [""])[-1]


def outcome(run):
    """Return what must be the same: the records, but for times and memory, and the weights."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    records = [{name: value for name, value in line.items() if name not in OF_THE_MACHINE} for line in lines]
    return records, {file.name: file.read_bytes() for file in (run / "model").glob("*.safetensors")}


def limit_files(process, size=resource.RLIM_INFINITY):
    """Let a process write no file beyond a size: what it notices is what it notices of a full disk."""
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
