"""The command line as a user runs it, in an empty folder."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial

import pytest
from typer.testing import CliRunner

from plugrad.cli.main import app

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
