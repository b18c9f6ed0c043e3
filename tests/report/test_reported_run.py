"""What is read of a run folder, whatever somebody has put there."""

import os
import re

import pytest

from plugrad.errors import RunFileError
from plugrad.report.report_page import report_html, report_of
from plugrad.report.reported_run import ReportedRun, names_of


def test_every_number_is_a_curve(runs):
    run = ReportedRun.read(runs[0])
    assert list(run.curves["reward"].steps) == [1, 2, 3]
    assert list(run.curves["eval/reward"].steps) == [0, 1, 2, 3]
    assert run.last_step == 3
    assert len(run.samples) == 41
    assert run.missing == []


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_a_broken_line_is_left_out_and_named_with_its_file(copied, name):
    whole = ReportedRun.read(copied)
    lines = (copied / name).read_text().splitlines()
    lines[1] = lines[1][:-3]
    (copied / name).write_text("\n".join(lines) + "\n")
    run = ReportedRun.read(copied)
    (told,) = run.passed_over.texts()
    assert re.search(rf"{name}, line 2 is not JSON", told)
    assert (len(run.samples), len(run.curves["reward"].steps)) == (
        (41, 2) if name == "metrics.jsonl" else (len(whole.samples) - 1, 3)
    )


def test_of_many_broken_lines_a_few_are_named_and_all_are_counted(copied):
    with (copied / "samples.jsonl").open("a") as file:
        file.write("[]\n" * 100)
    told = ReportedRun.read(copied).passed_over.texts()
    assert len(told) == 4
    assert told[-1].endswith("samples.jsonl: 97 more lines like these.")


def test_steps_that_go_backwards_are_named(copied):
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "reward": 0}\n')
    run = ReportedRun.read(copied)
    assert list(run.curves["reward"].steps) == [1, 2, 3]
    (told,) = run.passed_over.texts()
    assert re.search(r"metrics.jsonl, line 5: its step is 1, and the one before 3", told)


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
def test_a_run_file_that_is_no_toml_is_said(copied, text):
    (copied / "run.toml").write_text(text)
    run = ReportedRun.read(copied)
    (told,) = run.passed_over.texts()
    assert re.search(r"run\.toml cannot be read: TOMLDecodeError", told)
    assert (run.tables, run.last_step) == ({}, 3)


def test_a_pipe_in_the_place_of_a_record_is_not_read(copied):
    (copied / "samples.jsonl").unlink()
    os.mkfifo(copied / "samples.jsonl")
    (told,) = ReportedRun.read(copied).passed_over.texts()
    assert re.search(r"the records .* cannot be read: .* a pipe", told)


def test_a_damaged_part_of_a_run_costs_that_part_and_is_said_on_the_page(copied):
    """A record of the plugins, a capture and the times of a trace, each spoiled; the rest is shown."""
    (copied / "plugins.json").write_text('{"versions": {}, "components": [1]}')
    (copied / "captures" / "step_000002").mkdir(parents=True)
    (copied / "captures" / "step_000002" / "capture.json").write_text('{"format": 1')
    (copied / "profiles" / "step_000001").mkdir(parents=True)
    (copied / "profiles" / "step_000001" / "times.json").write_text("[")
    report = report_of([copied])
    reasons = (r"plugins\.json .* is not the record", r"captures/step_000002 .* is not JSON", r"times\.json .* is not JSON")
    assert len(report.passed_over) == 3
    for reason in reasons:
        assert any(re.search(reason, told) for told in report.passed_over)
        assert re.search(rf"Not shown:</strong> .*{reason}", report.html)
    assert "the sum is" in report.html


def test_values_that_are_no_numbers_are_no_curves(copied):
    (copied / "metrics.jsonl").write_text(
        '{"step": 1, "a": null, "b": "x", "c": true, "d": [1], "e": 2, "f": 1' + "0" * 400 + "}\n"
    )
    assert {name: list(curve.values) for name, curve in ReportedRun.read(copied).curves.items()} == {"a": [None], "e": [2]}


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    assert names_of([tmp_path / "a" / "seed-0"]) == ["seed-0"]
    assert names_of([tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-0"]) == ["a/seed-0", "b/seed-0"]
