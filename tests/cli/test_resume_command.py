"""`plugrad train --resume`: as a user, and a requeued job, call it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.usefixtures("quick_starts")

OF_THE_MACHINE = ("seconds", "rollouts_s", "tokens_per_s", "memory_gib")


def records(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in OF_THE_MACHINE} for line in lines]


def assert_same(found, wanted):
    assert records(found) == records(wanted)
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (found, wanted))
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_from_which_the_run_goes_on(forked, plugrad, folder, number):
    going_on = ("train", "run.toml", "--resume", "--set", "max_steps=40")
    process = forked(*going_on)
    metrics = folder / "runs" / "run" / "metrics.jsonl"
    process.wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 2)
    os.kill(process.pid, number)
    done = process.wait()
    assert done.returncode == 128 + number, done.stderr
    stopped = re.search(r"Stopped by \w+ after step (\d+)\..* To go on: plugrad train --resume (\S+)", done.stderr)
    assert stopped, done.stderr
    step = int(stopped[1])
    assert step < 40
    assert [path.name for path in (folder / "runs" / "run" / "checkpoints").iterdir()] == [f"step_{step:06d}"]
    # A requeued job runs the same command.
    again = plugrad(*going_on)
    assert again.returncode == 0, again.stderr
    assert f"going on after step {step}" in again.stdout
    assert plugrad("train", "run.toml", "--set", "max_steps=40", "--set", "output_dir=whole").returncode == 0
    assert_same(folder / "runs" / "run", folder / "whole")


def test_a_run_folder_is_enough_and_may_have_moved(plugrad, folder):
    asked = ("--set", "checkpoint.every_steps=1", "--set", "max_steps=2")
    assert plugrad("train", "run.toml", *asked).returncode == 0
    shutil.move(folder / "runs" / "run", folder / "moved")
    done = plugrad("train", "--resume", "moved", "--set", "max_steps=3")
    assert done.returncode == 0, done.stderr
    assert re.search(r"max_steps +2 +3", done.stdout), done.stdout
    assert "moved: " in done.stdout
    assert len(records(folder / "moved")) == 3
    assert not (folder / "runs" / "run").exists()


def test_a_complete_run_has_nothing_to_do_and_says_so(plugrad, folder):
    assert plugrad("train", "run.toml").returncode == 0
    done = plugrad("train", "run.toml", "--resume")
    assert done.returncode == 0
    assert "was complete after 3 steps: there is nothing to do" in done.stderr + done.stdout
    assert "other settings" not in done.stderr
    again = plugrad(
        "train", "runs/run", "--resume", "--set", "rollout.temperature=0.9", "--set", "evaluation.num_examples=8"
    )
    assert again.returncode == 0
    told = " ".join(again.stderr.split())
    assert "nothing is trained with these: rollout.temperature: 1.0 -> 0.9. For a new run pass --overwrite" in told
    elsewhere = plugrad("train", "runs/run", "--resume", "--set", "output_dir=there")
    assert elsewhere.returncode == 2
    assert "goes on in that folder, and --set output_dir=... names another one" in " ".join(elsewhere.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("run.toml", "--resume", "--overwrite"),
            "--resume goes on from the run in output_dir, and --overwrite replaces it",
        ),
        (("run.toml", "--allow-changes"), "--allow-changes is for a run that goes on: pass it with --resume"),
        (("--resume",), "give its run file, or its run folder"),
        (("nowhere", "--resume"), "nowhere"),
        ((".", "--resume"), "holds no run"),
        ((".",), "is a folder, and not a run file. Give the run file in it: run.toml"),
    ],
)
def test_what_does_not_go_together_is_refused(plugrad, folder, arguments, message):
    done = plugrad("train", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (folder / "runs").exists()


def test_a_difference_is_shown_and_how_to_go_on(plugrad, folder):
    asked = ("--set", "checkpoint.every_steps=1", "--set", "max_steps=2")
    assert plugrad("train", "run.toml", *asked).returncode == 0
    done = plugrad("train", "run.toml", *asked, "--set", "max_steps=3", "--set", "optimizer.lr=0.5", "--resume")
    assert done.returncode == 2
    assert "ResumeError: the run cannot go on from step 2 as it began" in done.stderr
    assert re.search(r"optimizer.lr: \S+ -> 0.5", done.stderr)
    assert "--allow-changes" in done.stderr
    assert plugrad("train", "run.toml", *asked).returncode == 2


def pids_of_ranks(launcher):
    found = subprocess.run(["pgrep", "-P", str(launcher)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.slow
def test_a_rank_that_is_killed_costs_nothing_but_time(plugrad_process, folder):
    (folder / "run.toml").write_text((folder / "run.toml").read_text() + "[checkpoint]\nevery_steps = 3\nkeep = 99\n")
    two = ("train", "run.toml", "--set", "max_steps=30", "--num-processes", "2")
    command = [sys.executable, "-m", "plugrad", *two, "--max-restarts", "2"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 180
    while not (folder / "runs" / "run" / "checkpoints" / "step_000003").exists():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pids_of_ranks(process.pid)[-1], signal.SIGKILL)
    assert process.wait(timeout=300) == 0, (folder / "log").read_text()
    told = (folder / "log").read_text()
    assert re.search(r"Restart 1 of 2, after step \d+: rank \d \(process \d+\) was killed by SIGKILL", told), told
    events = [json.loads(line)["event"] for line in (folder / "runs" / "run" / "history.jsonl").read_text().splitlines()]
    assert events == ["started", "restarted", "resumed", "finished"]
    whole = plugrad_process(*two, "--set", "output_dir=whole", timeout=300, OMP_NUM_THREADS="1")
    assert whole.returncode == 0, whole.stderr
    assert_same(folder / "runs" / "run", folder / "whole")
