"""`[profile]`: a trace of chosen steps, with the names of parts, hooks and plugins."""

import gzip
import json
import logging

import pytest
from torch.profiler import record_function

from plugrad.host.ranges import hook_range
from plugrad.trainer.profiling import Profiling

PLUGINS = {"loss": [{"name": "ppo_clip"}, {"name": "entropy_bonus"}], "extension": [{"name": "nan_guard"}]}


@pytest.fixture
def result(run):
    return run(max_steps=3, profile={"steps": [2]}, **PLUGINS)


def test_a_traced_step_has_its_parts_hooks_and_plugins_by_name(result):
    (profiled,) = (result.folder / "profiles").iterdir()
    assert profiled.name == "step_000002"
    with gzip.open(profiled / "rank_0.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    names = {event.get("name") for event in events if event.get("cat") == "user_annotation"}
    assert {"step: rollouts", "step: advantages", "step: updates", "step: weights to the engine"} <= names
    assert {"hook: compute_loss", "hook: compute_metrics", "hook: before_update"} <= names
    assert any(str(name).startswith("plugin: loss 'entropy_bonus'") for name in names), names
    assert any(str(name).startswith("plugin: environment 'jsonl'") for name in names), names
    # The two losses are called for the same micro-batches.
    calls = [event["name"] for event in events if str(event.get("name")).startswith("plugin: loss") and event["ph"] == "X"]
    assert len({calls.count(name) for name in set(calls)}) == 1


def test_the_seconds_of_parts_lie_within_those_of_what_they_are_part_of(result):
    times = json.loads((result.folder / "profiles" / "step_000002" / "times.json").read_text())
    assert all(seconds > 0 for seconds in times["step"].values())
    assert sum(times["step"].values()) < 1.05 * result.records[1]["seconds"]
    assert 0 < times["hooks"]["compute_loss"] < times["step"]["updates"]
    losses = [seconds for name, seconds in times["plugins"].items() if name.startswith("loss")]
    assert len(losses) == 2
    assert 0 < sum(losses) < times["step"]["updates"]


def test_a_trace_that_cannot_be_written_costs_nothing_else(tmp_path, caplog):
    (tmp_path / "profiles").write_text("in the way")
    profiling = Profiling(tmp_path, [1], rank=0)
    profiling.before(1)
    with caplog.at_level(logging.WARNING, "plugrad"):
        profiling.before(2)
    assert "The trace of step 1 is lost: " in caplog.text


def test_every_rank_writes_its_own_trace_and_the_first_the_seconds(tmp_path):
    for rank in (1, 0):
        profiling = Profiling(tmp_path, [1], rank)
        profiling.before(1)
        with hook_range("compute_loss"), record_function("something else"):
            pass
        profiling.close()
    assert sorted(path.name for path in (tmp_path / "profiles/step_000001").iterdir()) == [
        "rank_0.json.gz", "rank_1.json.gz", "times.json",
    ]  # fmt: skip
    times = json.loads((tmp_path / "profiles/step_000001/times.json").read_text())
    assert list(times["hooks"]) == ["compute_loss"]
    assert times["step"] == times["plugins"] == {}


def test_steps_after_the_last_are_said(run, caplog):
    with caplog.at_level(logging.WARNING, "plugrad"):
        result = run(max_steps=1, profile={"steps": [5, 7]}, capture={"steps": [9]})
    assert "profile.steps has 5, 7, but the run ends after 1." in caplog.text
    assert "capture.steps has 9, but the run ends after 1." in caplog.text
    assert not (result.folder / "profiles").exists()
    assert not (result.folder / "captures").exists()
