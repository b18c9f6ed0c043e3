"""The folder of a comparison: what continues, what is another comparison, and the lock."""

import json
import os
import subprocess
import sys

import pytest

from plugrad.compare.arms import arms_of
from plugrad.compare.checking import CheckedArm
from plugrad.compare.comparison_folder import ComparisonFolder
from plugrad.compare.planned_run import Outcome
from plugrad.config.reading import write_run_file
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.trainer.checkpoints.checkpoint_folder import begin, folder_of, publish, unfinished_of

TABLES = {
    "model": {"from_scratch": {"model_type": "qwen3"}},
    "environment": {"name": "arithmetic"},
    "max_steps": 1,
    "search_paths": ["/"],
}
FOUR_KEYS = {"prompts_per_step": 1, "rollouts_per_example": 1, "max_new_tokens": 1, "temperature": 2.0}
LOSS = {"kind": "loss", "reference": "mine.py:mine", "target": "/here/mine.py:mine", "sha256": "abc"}
METRIC = {"kind": "metric", "reference": "entropy", "target": "plugrad:entropy", "sha256": "def"}
PLUGINS = {"num_processes": 1, "versions": {"torch": "2.13.0"}, "components": [LOSS, METRIC], "modules": {"mine": "one"}}
HELD = """
import subprocess, sys
from pathlib import Path
from plugrad.compare.comparison_folder import ComparisonFolder

with ComparisonFolder(Path(sys.argv[1])).locked() as lock:
    child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return ComparisonFolder(tmp_path / "here")


def open_folder(folder, varied, seeds=(0,), plugins=PLUGINS, **tables):
    """Do with a folder what a comparison does before its first run."""
    arms = arms_of(varied, [])
    checked = {arm.name: CheckedArm(RunFile(**{**TABLES, **tables}), plugins) for arm in arms}
    runs = folder.runs(arms, checked, seeds)
    folder.check_unchanged(arms, checked, runs)
    folder.write_run_files(arms, checked)
    listed = {"arms": {arm.name: {"folder": arm.folder} for arm in arms}}
    (folder.path / "comparison.json").write_text(json.dumps(listed))
    return runs


def finish(run):
    run.start_afresh()
    (run.folder / "metrics.jsonl").write_text('{"step": 1, "num_tokens": 10}\n')
    (run.folder / "plugins.json").write_text(json.dumps(PLUGINS))
    run.write(Outcome(0, 1, 1.0))


def keep(run, step=1):
    """Give a run a checkpoint, as far as a comparison looks into it."""
    write_run_file(RunFile(**TABLES), run.folder / "run.toml")
    folder = folder_of(run.folder, step)
    begin(unfinished_of(folder))
    publish(unfinished_of(folder), folder, {"step": step, "num_ranks": 1, "sums": {}})


@pytest.fixture
def finished(folder):
    """A comparison of two arms that is done."""
    for run in open_folder(folder, ["loss.name=a,b"]):
        finish(run)
    return folder


def test_every_arm_is_run_at_one_seed_before_the_next(folder):
    runs = open_folder(folder, ["loss.name=a,b"], seeds=[3, 5])
    assert [(run.arm, run.seed) for run in runs] == [("a", 3), ("b", 3), ("a", 5), ("b", 5)]
    assert runs[-1].folder == folder.path / "b" / "seed-5"


def test_seeds_and_arms_may_come_to_a_comparison(finished):
    runs = open_folder(finished, ["loss.name=a,b,c"], seeds=[0, 1])
    assert [(run.arm, run.seed) for run in runs if run.is_finished] == [("a", 0), ("b", 0)]


def test_neither_another_seed_nor_another_folder_makes_it_another_comparison(finished):
    assert open_folder(finished, ["loss.name=a,b"], seed=4, output_dir="elsewhere")


@pytest.mark.parametrize(
    ("tables", "difference"),
    [
        ({"max_steps": 2}, "since the arm 'a' was run, max_steps was 1 and is 2."),
        ({"loss": {"kwargs": {"x": 1}}}, "loss.0.kwargs.x was not set and is 1."),
        ({"environment": {"name": "other"}}, "environment.name was arithmetic and is other."),
        ({"rollout": FOUR_KEYS}, "and 1 more."),
    ],
)
def test_another_run_file_is_another_comparison(finished, tables, difference):
    with pytest.raises(RunFileError) as caught:
        open_folder(finished, ["loss.name=a,b"], **tables)
    assert "holds another comparison: " in str(caught.value)
    assert difference in str(caught.value)
    assert "Use --rerun a to run this arm again, --overwrite to run everything again" in str(caught.value)


@pytest.mark.parametrize(
    ("plugins", "difference"),
    [
        ({**PLUGINS, "versions": {"torch": "2.14.0"}}, "torch was 2.13.0 and is 2.14.0"),
        ({**PLUGINS, "num_processes": 2}, "--num-processes was 1 and is 2"),
        ({**PLUGINS, "components": [{**LOSS, "sha256": "changed"}, METRIC]}, "the loss mine.py:mine has changed"),
        ({**PLUGINS, "components": [{**LOSS, "target": "/there/mine.py:its"}, METRIC]}, "the loss mine.py:its has changed"),
        ({**PLUGINS, "components": [LOSS, {**METRIC, "sha256": "changed"}]}, None),
        ({**PLUGINS, "modules": {"mine": "changed"}}, "the module mine has changed"),
        ({**PLUGINS, "modules": {"another": "one"}}, None),
        ({**PLUGINS, "components": [LOSS, METRIC, {**METRIC, "target": "new:metric"}]}, None),
    ],
)
def test_changed_code_is_another_comparison_and_a_metric_changes_nothing(finished, plugins, difference):
    if difference is None:
        assert open_folder(finished, ["loss.name=a,b"], plugins=plugins)
        return
    with pytest.raises(RunFileError) as caught:
        open_folder(finished, ["loss.name=a,b"], plugins=plugins)
    assert difference in str(caught.value)


@pytest.mark.parametrize(
    ("removed", "difference"),
    [
        ("num_processes", "--num-processes was unknown and is 1"),
        ("sha256", "the loss mine.py:mine has changed"),
        ("components", "its record of the plugins became unreadable"),
    ],
)
def test_a_record_that_lacks_a_key_is_another_comparison(finished, removed, difference):
    components = [{key: value for key, value in LOSS.items() if key != removed}]
    record = {key: value for key, value in {**PLUGINS, "components": components}.items() if key != removed}
    (finished.path / "a" / "seed-0" / "plugins.json").write_text(json.dumps(record))
    with pytest.raises(RunFileError) as caught:
        open_folder(finished, ["loss.name=a,b"])
    assert difference in str(caught.value)


def test_arms_of_which_nothing_is_finished_may_change(folder):
    open_folder(folder, ["loss.name=a"])
    assert open_folder(folder, ["loss.name=a"], max_steps=2)


@pytest.fixture
def begun(folder):
    """A comparison that was interrupted after the first checkpoint of its only run."""
    (run,) = open_folder(folder, ["loss.name=a"])
    finish(run)
    (run.folder / "outcome.json").unlink()
    keep(run)
    return folder


@pytest.mark.parametrize(
    ("tables", "plugins", "difference"),
    [
        ({"optimizer": {"lr": 1.0}}, PLUGINS, "since the arm 'a' was run, optimizer.lr was 1e-05 and is 1.0. Use --rerun a"),
        ({}, {**PLUGINS, "components": [{**LOSS, "sha256": "new"}, METRIC]}, "the loss mine.py:mine has changed"),
        ({}, {**PLUGINS, "components": [{**LOSS, "options": {"x": 2}}, METRIC]}, "loss mine.py:mine: x was None and is 2"),
        ({"max_steps": 2}, PLUGINS, None),
        ({"checkpoint": {"keep": 5}}, PLUGINS, None),
        ({}, {**PLUGINS, "components": [LOSS, {**METRIC, "sha256": "new"}]}, None),
    ],
)
def test_a_run_that_has_begun_goes_on_only_as_it_began(begun, tables, plugins, difference):
    if difference is None:
        (run,) = open_folder(begun, ["loss.name=a"], plugins=plugins, **tables)
        assert (run.is_finished, run.kept_step) == (False, 1)
        return
    with pytest.raises(RunFileError) as caught:
        open_folder(begun, ["loss.name=a"], plugins=plugins, **tables)
    assert difference in str(caught.value)


def test_runs_become_longer_where_all_have_a_checkpoint_of_their_end(finished):
    runs = open_folder(finished, ["loss.name=a,b"])
    keep(runs[0])
    with pytest.raises(
        RunFileError, match=r"the arm 'b' .* max_steps was 1 and is 2\. Its run at seed 0 kept no checkpoint"
    ):
        open_folder(finished, ["loss.name=a,b"], max_steps=2)
    keep(runs[1])
    longer = open_folder(finished, ["loss.name=a,b"], max_steps=2)
    assert [(run.is_finished, run.is_short, run.kept_step) for run in longer] == [(False, True, 1)] * 2
    # Interrupted before the first of them went on.
    assert [run.is_short for run in open_folder(finished, ["loss.name=a,b"], max_steps=2)] == [True, True]


def test_a_run_that_reached_its_reward_is_not_made_longer(finished):
    for run in open_folder(finished, ["loss.name=a,b"]):
        (run.folder / "history.jsonl").write_text('{"event": "finished", "step": 1, "by": "stop_at_reward"}\n')
    assert all(run.is_finished for run in open_folder(finished, ["loss.name=a,b"], max_steps=2))


def test_where_the_learning_rate_follows_max_steps_runs_do_not_become_longer(folder):
    optimizer = {"schedule": "cosine"}
    (run,) = open_folder(folder, ["loss.name=a"], optimizer=optimizer)
    finish(run)
    keep(run)
    with pytest.raises(
        RunFileError, match=r"max_steps was 1 and is 2\. With optimizer.schedule = 'cosine', the runs so far"
    ):
        open_folder(folder, ["loss.name=a"], optimizer=optimizer, max_steps=2)


@pytest.mark.parametrize("records", ["", '{"step": 1, "num_tokens": 10}\n\0\0\n'])
def test_a_run_whose_records_do_not_reach_its_checkpoint_begins_again(begun, records):
    (run,) = open_folder(begun, ["loss.name=a"])
    (run.folder / "metrics.jsonl").write_text(records)
    assert run.kept_step == 0


def test_other_arms_alone_are_another_comparison(finished):
    with pytest.raises(RunFileError, match="its arms are a, b, and this command names none of them"):
        open_folder(finished, ["loss.name=c"])


@pytest.mark.parametrize("text", [None, "{}", "[]", '{"arms": 1}', '{"arms": {"a": {}}}', "not json"])
def test_a_folder_without_a_comparison_is_left_alone(folder, text):
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    if text is not None:
        (folder.path / "comparison.json").write_text(text)
    with pytest.raises(RunFileError, match=r"notes\.txt.* but no comparison.json, so it is not a comparison"):
        folder.earlier_arms()


def test_only_folders_inside_are_removed(folder):
    folder.path.mkdir()
    outside = folder.path.parent / "outside"
    outside.mkdir()
    arms = {name: {"folder": name} for name in ("../outside", str(outside), "..", ".", "a")}
    (folder.path / "comparison.json").write_text(json.dumps({"arms": arms}))
    assert folder.earlier_arms() == {"a": "a"}


def test_a_run_that_outlives_its_comparison_keeps_others_out(folder):
    command = [sys.executable, "-c", HELD, str(folder.path)]
    held = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(held.stdout.readline())
    try:
        with (
            pytest.raises(RunFileError, match=rf"another comparison is running in .* \(process {held.pid}\)"),
            folder.locked(),
        ):
            pass
        held.kill()
        held.wait()
        with pytest.raises(RunFileError, match="was killed, and the run that it started is still running"), folder.locked():
            pass
    finally:
        os.kill(child, 9)
        held.stdin.close()
        held.stdout.close()
    for _ in range(100):
        try:
            with folder.locked():
                return
        except RunFileError:
            subprocess.run(["sleep", "0.05"], check=True)
    pytest.fail("the lock is not given back")
