"""Ctrl-C, SIGTERM, full disks and closed pipes: what was recorded stays readable."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from transformers import AutoModelForCausalLM

pytestmark = pytest.mark.usefixtures("quick_starts")

LONG = ("train", "run.toml", "--set", "max_steps=100000")
SLOW_STEPS = """
import time

def slow(inputs):
    time.sleep(4.0)
    return {"slept": 4.0}
"""


def start(*arguments, **options):
    command = [sys.executable, "-m", "plugrad", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options)


def wait_for(process, is_so, seconds=90):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def records(folder):
    return [json.loads(line) for line in (folder / "runs" / "run" / "metrics.jsonl").read_text().splitlines()]


def has_steps(folder, number):
    path = folder / "runs" / "run" / "metrics.jsonl"
    return lambda: path.exists() and path.read_text().count("\n") >= number


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_one_signal_lets_the_step_finish_and_the_model_be_saved(folder, number, code):
    process = start(*LONG)
    wait_for(process, has_steps(folder, 2))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    done = records(folder)
    assert [record["step"] for record in done] == list(range(1, len(done) + 1))
    assert f"Stopped by {number.name} after step {len(done)}." in errors
    assert "Traceback" not in errors
    assert AutoModelForCausalLM.from_pretrained(folder / "runs" / "run" / "model").config.model_type == "qwen3"


@pytest.mark.parametrize(
    ("first", "second", "again", "code"),
    [
        (signal.SIGINT, signal.SIGINT, "Ctrl-C", 130),
        (signal.SIGTERM, signal.SIGTERM, "SIGTERM", 143),
        (signal.SIGTERM, signal.SIGINT, "SIGTERM", 130),
    ],
)
def test_a_second_signal_stops_at_once_and_keeps_whole_lines(forked, folder, first, second, again, code):
    (folder / "slow.py").write_text(SLOW_STEPS)
    process = forked(*LONG, "--set", "metrics=['slow.py:slow']")
    process.wait_for(has_steps(folder, 1))
    os.kill(process.pid, first)
    # Two that come before the first is noticed are one.
    process.wait_for(lambda: f"{again} again stops at once" in process.errors.read_text())
    os.kill(process.pid, second)
    done = process.wait()
    assert done.returncode == code
    assert "Interrupted at once. Finished steps, if any, are in metrics.jsonl. No model was saved." in done.stderr
    assert "Traceback" not in done.stderr
    assert records(folder)[0]["step"] == 1
    assert not (folder / "runs" / "run" / "model").exists()


def test_a_full_disk_ends_the_run_and_leaves_whole_lines(folder):
    # A limit on the size of files does what a full disk does: a write takes a part of the line, the next one fails.
    limit = 20_000
    process = start(*LONG, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "metrics.jsonl cannot be written" in errors
    assert "Make room" in errors
    assert "Traceback" not in errors
    done = records(folder)
    assert f"holds {len(done)} whole lines" in errors
    assert len(done) > 5
    assert (folder / "runs" / "run" / "metrics.jsonl").read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("output_dir", ["/proc/run", "run.toml/inside"])
def test_a_run_folder_that_cannot_be_written_is_found_before_any_work(plugrad, folder, output_dir):
    done = plugrad("train", "run.toml", "--set", f"output_dir={output_dir}")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Choose another output_dir" in done.stderr


def test_a_pipe_that_closes_does_not_end_the_run(folder):
    process = start("train", "run.toml", "--set", "max_steps=5")
    process.stdout.close()
    errors = process.stderr.read()
    process.wait(timeout=120)
    assert len(records(folder)) == 5, errors
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()
    assert "Traceback" not in errors


PRINTS = """
import sys

def prints(inputs):
    print("in a terminal that may be gone", flush=True)
    sys.stderr.write("so may be this one")
    return {}
"""


def test_a_terminal_that_is_closed_lets_the_step_finish_and_the_model_be_saved(forked, folder):
    (folder / "slow.py").write_text(SLOW_STEPS)
    (folder / "prints.py").write_text(PRINTS)
    ours, theirs = os.openpty()

    def in_the_terminal():
        # These tests may themselves run under nohup.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        # The first terminal that the leader of a session opens is the session's.
        os.setsid()
        terminal = os.open(os.ttyname(theirs), os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(terminal, number)
        os.close(ours)

    process = forked(*LONG, "--set", "metrics=['slow.py:slow', 'prints.py:prints']", prepare=in_the_terminal)
    process.wait_for(has_steps(folder, 1))
    # The system sends SIGHUP, and a shell sends another one.
    os.close(ours)
    os.kill(process.pid, signal.SIGHUP)
    assert process.wait().returncode == 129
    os.close(theirs)
    assert (folder / "runs" / "run" / "model" / "config.json").is_file()


def test_under_nohup_a_closed_terminal_does_not_stop_the_run(forked, folder):
    process = forked(*LONG, prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.wait_for(has_steps(folder, 1))
    os.kill(process.pid, signal.SIGHUP)
    process.wait_for(has_steps(folder, len(records(folder)) + 3))
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait().returncode == 143


AT_THE_END = """
import os
import resource
import sys
import time

import plugrad
from plugrad import LossOutputs

class Ends:
    def __init__(self, how: str):
        self.how = how

    @plugrad.hookimpl
    def on_step_end(self, step):
        if self.how == "small files" and step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        if self.how == "few files" and step == 2:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            open(os.devnull)

    @plugrad.hookimpl
    def on_run_end(self, run):
        if self.how == "exits":
            sys.exit(0)
        if self.how == "waits":
            while True:
                time.sleep(0.05)
        if self.how == "interrupts":
            raise KeyboardInterrupt
"""


@pytest.mark.parametrize(
    ("how", "messages", "is_saved"),
    [
        (
            "small files",
            ["the model cannot be saved in", "File too large", "Make room, or choose another"],
            False,
        ),
        ("few files", ["Too many open files", "The model as it was after the last step is saved in"], True),
        ("exits", ["in its on_run_end raised SystemExit: 0", "The model is saved in"], True),
        ("interrupts", ["in its on_run_end raised KeyboardInterrupt", "The model is saved in"], True),
    ],
)
def test_a_run_that_fails_at_its_end_has_the_exit_code_of_one_that_had_begun(ends, folder, how, messages, is_saved):
    (folder / "ending.py").write_text(AT_THE_END)
    done = ends("train", "run.toml", "--set", f"extension=[{{name='ending.py:Ends', kwargs={{how='{how}'}}}}]")
    assert done.returncode == 1, done.stderr
    for message in messages:
        assert message.lower() in done.stderr.lower(), done.stderr
    run = folder / "runs" / "run"
    assert (run / "model" / "config.json").is_file() == is_saved
    assert not (run / "model.unfinished").exists()


def test_ctrl_c_in_on_run_end_says_that_the_model_is_saved(forked, folder):
    (folder / "ending.py").write_text(AT_THE_END.replace("while True:", "open('waits', 'w')\n            while True:"))
    process = forked("train", "run.toml", "--set", "extension=[{name='ending.py:Ends', kwargs={how='waits'}}]")
    process.wait_for((folder / "waits").is_file)
    os.kill(process.pid, signal.SIGINT)
    process.wait_for(lambda: "stops at once" in process.errors.read_text())
    os.kill(process.pid, signal.SIGINT)
    done = process.wait()
    assert done.returncode == 130
    assert "The run is complete and its model saved; waiting for on_run_end. Ctrl-C again stops at once." in done.stderr
    assert f"The model is in {folder / 'runs' / 'run' / 'model'}." in done.stderr
    assert "No model was saved" not in done.stderr


def test_a_failing_plugin_does_not_cost_what_was_learnt(plugrad, folder):
    (folder / "fails.py").write_text(
        """
import plugrad

class Fails:
    @plugrad.hookimpl
    def on_step_end(self, step):
        if step == 2:
            raise OSError("the tracker is gone")
"""
    )
    done = plugrad("train", "run.toml", "--set", 'extension=[{name = "fails.py:Fails"}]')
    assert done.returncode == 1
    assert "in its on_step_end raised OSError: the tracker is gone" in done.stderr
    assert 'fails.py", line 8, in on_step_end' in done.stderr
    assert "The model as it was after the last step is saved in" in done.stderr
    run = folder / "runs" / "run"
    assert (run / "model" / "config.json").is_file()
    for name in ("plugins.json", "run.toml"):
        assert (run / "model" / name).read_bytes() == (run / name).read_bytes()
