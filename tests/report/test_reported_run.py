"""What is read of a run folder, whatever somebody has put there."""

import os

import pytest

from plugrad.errors import DataError, RunFileError
from plugrad.report.report_page import report_html
from plugrad.report.reported_run import ReportedRun, names_of


def test_every_number_is_a_curve(runs):
    run = ReportedRun.read(runs[0])
    assert list(run.curves["reward"].steps) == [1, 2, 3]
    assert list(run.curves["eval/reward"].steps) == [0, 1, 2, 3]
    assert run.last_step == 3
    assert len(run.samples) == 41
    assert run.missing == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_a_broken_line_is_named_with_its_file(copied, name):
    lines = (copied / name).read_text().splitlines()
    lines[1] = lines[1][:-3]
    (copied / name).write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"{name}, line 2 is not JSON"):
        ReportedRun.read(copied)


def test_steps_that_go_backwards_are_named(copied):
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "reward": 0}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl, line 5: its step is 1, and the one before 3"):
        ReportedRun.read(copied)


def test_half_of_a_last_line_is_left_out(copied):
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    assert ReportedRun.read(copied).last_step == 3


@pytest.mark.parametrize("name", ["metrics.jsonl", "plugins.json", "run.toml", "samples.jsonl", "history.jsonl"])
def test_a_missing_file_is_said_on_the_page(copied, name):
    (copied / name).unlink()
    assert f"This run has no <code>{name}</code>" in report_html([copied])


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFileError, match=r"it has neither metrics.jsonl nor plugins.json. Give the folder of a run"):
        ReportedRun.read(tmp_path)
    with pytest.raises(RunFileError, match="there is no such folder"):
        ReportedRun.read(tmp_path / "absent")


@pytest.mark.parametrize("text", ["[", "x = 1\x00"])
def test_a_run_file_that_is_no_toml_is_an_error(copied, text):
    (copied / "run.toml").write_text(text)
    with pytest.raises(RunFileError, match="cannot be reported on"):
        ReportedRun.read(copied)


def test_a_pipe_in_the_place_of_a_record_is_refused(copied):
    (copied / "samples.jsonl").unlink()
    os.mkfifo(copied / "samples.jsonl")
    with pytest.raises(DataError, match=r"the records .* cannot be read: .* a pipe"):
        ReportedRun.read(copied)


def test_values_that_are_no_numbers_are_no_curves(copied):
    (copied / "metrics.jsonl").write_text(
        '{"step": 1, "a": null, "b": "x", "c": true, "d": [1], "e": 2, "f": 1' + "0" * 400 + "}\n"
    )
    assert {name: list(curve.values) for name, curve in ReportedRun.read(copied).curves.items()} == {"a": [None], "e": [2]}


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    assert names_of([tmp_path / "a" / "seed-0"]) == ["seed-0"]
    assert names_of([tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-0"]) == ["a/seed-0", "b/seed-0"]
