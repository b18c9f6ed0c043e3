"""The command line as a user runs it, in an empty folder."""

import importlib
import os
import posix
import subprocess
import sys
import threading
import time
import traceback
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from plugrad.cli.main import app, main

# Not the folder of all tests, where `vllm` would be found.
sys.path.insert(0, str(Path(__file__).parent / "starts"))

from quick_starts import copy_this_process

RUN_FILE = """
max_steps = 3

[model.from_scratch]
model_type = "qwen3"
hidden_size = 32
num_hidden_layers = 2

[environment]
name = "arithmetic"
kwargs = { digits = 1 }

[rollout]
prompts_per_step = 4
rollouts_per_example = 4
max_new_tokens = 4
"""


@pytest.fixture(scope="module")
def quick_starts():
    """Let processes of plugrad's begin as copies of this one: see `starts/quick_starts.py`."""
    with pytest.MonkeyPatch.context() as patch:
        copy_this_process(patch)
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory with a run file in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(RUN_FILE)
    return tmp_path


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def plugrad(folder):
    """Run a command in this process: importing torch again takes seconds."""

    def call(*arguments):
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def module_process(folder):
    """Run a module, `python -m MODULE`, in a separate process."""

    def call(*arguments, timeout=120, **environment):
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **environment},
        )

    return call


@pytest.fixture
def plugrad_process(module_process):
    """Run `python -m plugrad` in a separate process."""
    return partial(module_process, "plugrad")


class Fork:
    """A copy of this process, which has imported everything already, in which the command line runs as a user's does."""

    def __init__(self, arguments, folder, prepare=lambda: None):
        self.output, self.errors = folder / "output.txt", folder / "errors.txt"
        self.returncode = None
        with warnings.catch_warnings():
            # That the other threads are not copied.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments, prepare)

    def _become(self, arguments, prepare):
        code = 70
        try:
            # OpenMP's threads are not copied either.
            torch.set_num_threads(1)
            for number, path in ((1, self.output), (2, self.errors)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            prepare()
            sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))  # noqa: SIM115
            sys.argv = ["plugrad", *arguments]
            code = self._end_of_main()
            # Python does so at its end.
            threading._shutdown()
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        finally:
            posix._exit(code)

    @staticmethod
    def _end_of_main():
        try:
            main()
        except SystemExit as end:
            return end.code or 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            return 99

    def poll(self):
        """Return the exit code, or None while the command runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait_for(self, is_so):
        """Wait until something is so."""
        deadline = time.monotonic() + 90
        while not is_so():
            assert time.monotonic() < deadline
            assert self.poll() is None, self.errors.read_text(encoding="utf-8")
            time.sleep(0.02)

    def wait(self):
        """Wait for its end."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return Done(self.returncode, *(path.read_text(encoding="utf-8") for path in (self.output, self.errors)))


@pytest.fixture
def forked(folder):
    """Start the command line, `main()`, in a fork of this process: see `Fork`. It ends with the test at the latest."""
    started = []

    def start(*arguments, **options):
        # Imported here once, and not in every fork.
        importlib.import_module("plugrad.trainer.train")
        started.append(Fork(arguments, folder, **options))
        return started[-1]

    yield start
    for each in started:
        if each.poll() is None:
            os.kill(each.pid, 9)
            each.wait()


@pytest.fixture
def ends(forked):
    """Run the command line in a fork, and return what it printed and its exit code."""
    return lambda *arguments, **options: forked(*arguments, **options).wait()
