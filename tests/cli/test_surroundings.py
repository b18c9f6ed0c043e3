"""Surroundings that a command cannot work in: each is an error of ours, exit code 2, in a real process."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def in_a_shell(folder):
    """Run a line of the shell, in which $PLUGRAD stands for the command."""

    def run(line, **environment):
        settings = {**os.environ, "PLUGRAD": f"{sys.executable} -P -m plugrad", **environment}
        return subprocess.run(
            ["bash", "-c", line],
            env=settings,
            capture_output=True,
            timeout=120,
            check=False,
            encoding="utf-8",
            errors="replace",
        )

    return run


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mkdir gone; cd gone; rmdir ../gone; $PLUGRAD plugins list", "RunFileError: the working directory cannot be used"),
        (
            "mkdir gone; cd gone; rmdir ../gone; $PLUGRAD train /run.toml",
            "RunFileError: the working directory cannot be used",
        ),
        (
            f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -m plugrad plugins list",
            "RunFileError: the working directory cannot be used",
        ),
        ("WORLD_SIZE=2 $PLUGRAD train run.toml", "RunFileError: WORLD_SIZE is 2 in the environment, without RANK"),
        ("WORLD_SIZE=two $PLUGRAD train run.toml", "RunFileError: WORLD_SIZE is 'two' in the environment"),
        ("$PLUGRAD plugins list > /dev/full", "RunFileError: standard output cannot be written: [Errno 28]"),
        ("$PLUGRAD plugins list --json > /dev/full", "RunFileError: standard output cannot be written: [Errno 28]"),
        ("$PLUGRAD --help > /dev/full", "the system refuses to go on: [Errno 28]"),
        ("$PLUGRAD --version > /dev/full", "the system refuses to go on: [Errno 28]"),
        ("ulimit -n 30; $PLUGRAD train run.toml --num-processes 2", "RunFileError: --num-processes is 2, which takes about"),
        ("mkfifo pipe; $PLUGRAD train pipe", "RunFileError: the run file 'pipe' cannot be read: [Errno 22]"),
    ],
)
def test_a_command_that_cannot_work_says_why(in_a_shell, line, message):
    done = in_a_shell(line)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_an_ascii_locale_reads_and_prints_everything(in_a_shell, folder):
    (folder / "größe.toml").write_text("seed = 'größe…'\n", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = in_a_shell("$PLUGRAD plugins list; $PLUGRAD plugins show ppo_clip; $PLUGRAD train größe.toml", **ascii_only)
    assert "Traceback" not in done.stderr
    assert "It is 'gr\\xf6\\xdfe\\u2026'" in done.stderr
    assert "importance_sampling" in done.stdout
    assert done.stdout.isascii()
    assert done.stderr.isascii()


def test_closed_streams_change_no_exit_code(in_a_shell):
    lines = {
        "$PLUGRAD plugins list >&-": 0,
        "$PLUGRAD plugins list <&- >&- 2>&-": 0,
        "$PLUGRAD --version 2>&- >/dev/full": 2,
        "$PLUGRAD train nope.toml 2>&-": 2,
    }
    done = in_a_shell("; ".join(f"{line}; echo $?" for line in lines))
    assert done.stdout.split() == [str(code) for code in lines.values()], done.stderr
    assert done.stderr == ""


TAKES_THE_STREAMS = """
import sys
from plugrad import LossOutputs

def to_none():
    sys.stdout = sys.stderr = None

def closed():
    sys.stdout.close()
    sys.stderr.close()

def loss(inputs, how: str):
    if inputs.step == 1:
        globals()[how]()
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages).sum())
"""


@pytest.mark.parametrize(("how", "code"), [("to_none", 0), ("closed", 2)])
def test_a_plugin_that_takes_the_streams_away_does_not_end_the_run(ends, folder, how, code):
    (folder / "takes.py").write_text(TAKES_THE_STREAMS)
    done = ends("train", "run.toml", "--set", f"loss={{name='takes.py:loss', kwargs={{how='{how}'}}}}")
    # As with every output that is lost.
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert ("run folder" in done.stdout) == (how == "to_none")
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()


@pytest.mark.slow
def test_training_on_a_full_disk_of_output_saves_the_model_and_says_so(in_a_shell, folder):
    done = in_a_shell("$PLUGRAD train run.toml > /dev/full")
    assert done.returncode == 2
    assert "standard output cannot be written: [Errno 28]" in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "runs" / "run" / "model" / "model.safetensors").exists()
