"""The parts of a step add up to it."""

import json
import re
from pathlib import Path

import pytest

from plugrad.report.overview import duration, number, state_of, tiles_of
from plugrad.report.passed_over import PassedOver
from plugrad.report.reported_run import Curve, ReportedRun
from plugrad.report.step_time import parts_of, traced_steps_of


def run_of(**curves):
    made = {name: Curve(list(range(1, 1 + len(values))), values) for name, values in curves.items()}
    return ReportedRun(Path("run"), made, [], [], {}, {"max_steps": 4}, "", [])


def test_hooks_are_told_apart_from_rollouts_and_from_the_rest():
    run = run_of(
        seconds=[10, 10], rollouts_s=[4, 4], **{"timing/compute_advantages_s": [1, 1], "timing/compute_loss/a_s": [2, 2]}
    )
    found = {part.name: (part.seconds, part.share) for part in parts_of(run)}
    assert found == {
        "rollouts: sampling and scoring": (3, pytest.approx(0.3)),
        "compute_advantages": (1, pytest.approx(0.1)),
        "compute_loss/a": (2, pytest.approx(0.2)),
        "model, optimizer and the rest": (4, pytest.approx(0.4)),
    }


def test_a_number_that_is_written_late_is_a_mean_over_all_steps():
    run = run_of(seconds=[2, 2], rollouts_s=[0, 0], **{"timing/compute_metrics_s": [None, 1]})
    assert {part.name: part.seconds for part in parts_of(run)}["compute_metrics"] == 0.5


def test_a_run_without_times_has_no_parts():
    assert parts_of(run_of(reward=[1])) == []


def test_tiles_compare_the_first_and_the_last_tenth():
    run = run_of(reward=[0.0] * 10 + [0.5] * 9 + [1.0], seconds=[0.5] * 20)
    assert tiles_of(run)[:2] == [
        ("Steps", "20", "of 4"),
        ("Reward", "0.000 → 0.750", "mean of the first and last tenth of the steps"),
    ]
    assert ("Time in steps", "0:10 min", "") in tiles_of(run)


def test_figures_are_short():
    assert [number(value) for value in (0, 0.5, 1e-5, 12345.6)] == ["0.000", "0.500", "1e-05", "1.23e+04"]
    assert [duration(value) for value in (59.6, 3725)] == ["1:00 min", "1:02:05 h"]


def test_a_run_that_was_killed_has_not_ended(runs):
    assert state_of(ReportedRun.read(runs[0])) == "finished"
    assert state_of(run_of()) == "no history"


def test_a_traced_step_has_its_plugins_the_longest_first(tmp_path):
    folder = tmp_path / "profiles" / "step_000005"
    folder.mkdir(parents=True)
    times = {"step": {"rollouts": 3.0, "updates": 1.0}, "hooks": {}, "plugins": {"loss 'a'": 0.5, "<b>": 1.0, "c": None}}
    (folder / "times.json").write_text(json.dumps(times))
    (step,) = traced_steps_of(tmp_path, PassedOver())
    assert step.name == "step_000005"
    assert [(part.seconds, part.share) for part in step.plugins] == [(1.0, 0.25), (0.5, 0.125)]
    (folder / "times.json").write_text("[]")
    passed_over = PassedOver()
    assert traced_steps_of(tmp_path, passed_over) == []
    (told,) = passed_over.texts()
    assert re.search(r"times\.json cannot be read", told)
