"""`plugrad train --like`: what differs is said before the model loads, and an earlier run is repeated."""

import json
import re

import pytest

pytestmark = pytest.mark.usefixtures("quick_starts")


@pytest.fixture
def first(plugrad, folder):
    """A run of one step, in runs/run."""
    assert plugrad("train", "run.toml", "--set", "max_steps=1").returncode == 0
    return folder / "runs" / "run"


def test_what_differs_is_listed_before_the_run_starts(plugrad, first):
    done = plugrad("train", "run.toml", "--like", "runs/run", "--set", "output_dir=runs/second", "--set", "max_steps=2")
    assert done.returncode == 0, done.stderr
    said, head, row, started, *_ = done.stdout.splitlines()
    assert said == "Differs from runs/run in one thing:"
    assert head.split() == ["WHAT", "THEN", "NOW"]
    assert row.split() == ["max_steps", "1", "2"]
    assert started.startswith("second: ")


def test_without_a_run_file_that_run_is_repeated(plugrad, first):
    done = plugrad("train", "--like", "runs/run", "--set", "output_dir=runs/again")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Nothing differs from runs/run.\n")
    times = ("seconds", "rollouts_s", "tokens_per_s", "memory_gib")
    old, new = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (first, first.parent / "again")
    )
    assert len(old) == len(new) == 1
    for before, after in zip(old, new, strict=True):
        assert {k: v for k, v in before.items() if k not in times} == {k: v for k, v in after.items() if k not in times}


def test_a_saved_model_will_do(plugrad, first):
    done = plugrad("train", "--like", "runs/run/model", "--set", "output_dir=runs/again", "--set", "seed=3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Differs from runs/run/model in one thing:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--like", "runs/run"], r"Choose another one with --set output_dir=\.\.\."),
        (["--like", "runs/nothing", "--set", "output_dir=runs/again"], "there is no such folder"),
        (["run.toml", "--like", "runs", "--set", "output_dir=runs/again"], r"it has no run\.toml"),
        (["run.toml", "--like", "runs/run"], "already holds a run"),
        ([], "there is nothing to train: give a run file, or --like RUN_FOLDER"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_lost(plugrad, first, arguments, message):
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    done = plugrad("train", *arguments)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    assert not (first.parent / "again").exists()


@pytest.mark.slow
def test_ranks_say_once_what_differs(plugrad_process, first):
    arguments = ("train", "--like", "runs/run", "--set", "output_dir=runs/again", "--num-processes", "2")
    done = plugrad_process(*arguments, timeout=180, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Differs from runs/run in one thing:") == 1
    assert re.search(r"^ *number of processes +1 +2$", done.stdout, flags=re.MULTILINE)
