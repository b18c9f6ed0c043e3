"""`plugrad compare` after an interruption, or with more steps: the numbers are those of one that was never stopped."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from plugrad.cli.main import app
from plugrad.trainer.checkpoints.checkpoint_folder import folder_of, steps_in

ENVIRONMENT = """
import time
from pathlib import Path

HERE = Path(__file__).parent


class Sums:
    def train_examples(self):
        return [{"prompt": f"{i}+{j}=", "reference": str(i + j)} for i in range(10) for j in range(10)]

    def eval_examples(self):
        return []

    def score(self, rollouts):
        if (HERE / "slow").exists():
            time.sleep(0.4)
        return [float(rollout["completion"].count("1")) for rollout in rollouts]
"""
RUN_FILE = """
max_steps = 6
[model.from_scratch]
model_type = "qwen3"
hidden_size = 32
num_hidden_layers = 2
[environment]
name = "sums.py:Sums"
[rollout]
prompts_per_step = 4
rollouts_per_example = 4
max_new_tokens = 4
[optimizer]
lr = 1e-2
[checkpoint]
every_steps = 2
keep = 9
"""
BOTH, ONE = "loss.name=ppo_clip,reinforce", "loss.name=reinforce"
OF_THE_MACHINE = {"seconds", "rollouts_s", "tokens_per_s", "memory_gib"}
OF_ALL_ARMS = {"reward_at_equal_tokens"}
STOPPED = "reinforce/seed-0"


pytestmark = pytest.mark.usefixtures("quick_starts")


def write_files(folder):
    (folder / "sums.py").write_text(ENVIRONMENT)
    (folder / "run.toml").write_text(RUN_FILE)


def arguments_of(arms, folder, *more):
    return ["compare", "run.toml", "--vary", arms, "--seeds", "1", "--output-dir", folder, *more]


def compare(*arguments):
    return CliRunner().invoke(app, arguments_of(*arguments))


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory, quick_starts):
    """A folder with a comparison that was never stopped."""
    folder = tmp_path_factory.mktemp("compared")
    write_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = compare(BOTH, "whole")
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def here(never_stopped, monkeypatch):
    monkeypatch.chdir(never_stopped)
    return never_stopped


def records_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in OF_THE_MACHINE} for line in lines]


def events_of(run):
    return [(line["event"], line["step"]) for line in map(json.loads, (run / "history.jsonl").read_text().splitlines())]


def numbers_of(comparison, run):
    arm, seed = run.split("/seed-")
    found = json.loads((comparison / "comparison.json").read_text())["arms"][arm]["runs"][seed]["numbers"]
    return {name: number for name, number in found.items() if name not in OF_THE_MACHINE | OF_ALL_ARMS}


def assert_same(found, wanted, run):
    assert numbers_of(found, run) == numbers_of(wanted, run)
    assert records_of(found / run) == records_of(wanted / run)
    ours, theirs = (load_file(each / run / "model" / "model.safetensors") for each in (found, wanted))
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight), name


def killed_after(run, step):
    """Leave a run as if it, and the comparison, had been killed in the step after the next of a checkpoint."""
    shutil.rmtree(run / "model")
    (run / "outcome.json").unlink()
    for later in steps_in(run):
        if later > step:
            shutil.rmtree(folder_of(run, later))
    (run / "history.jsonl").write_text((run / "history.jsonl").read_text().splitlines(keepends=True)[0])
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(lines[: step + 1]) + lines[step + 1][:20])


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_from_its_checkpoint(here):
    shutil.copytree(here / "whole", here / "killed")
    killed_after(here / "killed" / STOPPED, 2)
    finished = (here / "killed" / "ppo_clip" / "seed-0" / "outcome.json").stat().st_mtime_ns
    done = compare(BOTH, "killed")
    assert done.exit_code == 0, done.output
    assert "1 already done; 1 to go on from a checkpoint" in done.stdout
    assert events_of(here / "killed" / STOPPED) == [("started", 0), ("resumed", 2), ("finished", 6)]
    assert (here / "killed" / "ppo_clip" / "seed-0" / "outcome.json").stat().st_mtime_ns == finished
    assert_same(here / "killed", here / "whole", STOPPED)


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_the_same_command_goes_on_from_it(here):
    stopped, slow = here / "stopped" / STOPPED, here / "slow"
    slow.touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "plugrad", *arguments_of(ONE, "stopped")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has it ignored, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        while not ((stopped / "metrics.jsonl").exists() and len((stopped / "metrics.jsonl").read_text().splitlines()) >= 3):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
        slow.unlink()
    assert process.returncode == 130, errors
    (_, (event, step)) = events_of(stopped)
    assert (event, steps_in(stopped)[0]) == ("stopped", step)
    assert 3 <= step < 6
    assert "Stopping: reinforce, seed 0, finishes its step and writes a checkpoint." in errors
    said = f"Interrupted. Run the same command again to continue. reinforce, seed 0, goes on after step {step}."
    assert said in printed
    assert not (stopped / "outcome.json").exists()
    again = compare(ONE, "stopped")
    assert again.exit_code == 0, again.output
    assert events_of(stopped) == [("started", 0), ("stopped", step), ("resumed", step), ("finished", 6)]
    assert "Stopped by SIGTERM" in (stopped / "log.txt").read_text()
    assert_same(here / "stopped", here / "whole", STOPPED)


@pytest.mark.slow
def test_with_more_steps_the_runs_go_on_from_their_ends(here):
    shorter = compare(ONE, "longer", "--set", "max_steps=3")
    assert shorter.exit_code == 0, shorter.output
    longer = compare(ONE, "longer")
    assert longer.exit_code == 0, longer.output
    assert "; 1 to go on from a checkpoint" in longer.stdout
    assert events_of(here / "longer" / STOPPED) == [("started", 0), ("finished", 3), ("resumed", 3), ("finished", 6)]
    assert_same(here / "longer", here / "whole", STOPPED)
    before = (here / "longer" / STOPPED / "outcome.json").read_bytes()
    fewer = compare(ONE, "longer", "--set", "max_steps=3")
    assert fewer.exit_code == 2
    assert "since the arm 'reinforce' was run, max_steps was 6 and is 3. Use --rerun reinforce" in fewer.stderr
    shutil.rmtree(folder_of(here / "longer" / STOPPED, 6))
    refused = compare(ONE, "longer", "--set", "max_steps=8")
    assert refused.exit_code == 2
    assert "since the arm 'reinforce' was run, max_steps was 6 and is 8. Its run at seed 0 kept no checkpoint of" in (
        refused.stderr
    )
    assert "max_steps = 6" in (here / "longer" / "reinforce" / "run.toml").read_text()
    assert (here / "longer" / STOPPED / "outcome.json").read_bytes() == before
