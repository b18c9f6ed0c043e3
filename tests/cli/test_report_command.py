"""`plugrad report`: a file, or a page that follows the run until Ctrl-C."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

RECORD = {"versions": {"plugrad": "0.1.0"}, "components": [], "origin": None}


@pytest.fixture
def run_folder(folder):
    """A run of two steps."""
    run = folder / "runs" / "run"
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "reward": 0.25}\n{"step": 2, "reward": 0.75}\n')
    (run / "plugins.json").write_text(json.dumps(RECORD))
    (run / "run.toml").write_text("max_steps = 2\n")
    return run


def test_the_report_lies_in_the_folder_of_the_run(plugrad, run_folder):
    done = plugrad("report", "runs/run")
    assert done.stdout.startswith("report       runs/run/report.html  (")
    assert "0.250 → 0.750" in (run_folder / "report.html").read_text()


def test_or_where_output_says(plugrad, run_folder, folder):
    assert plugrad("report", "runs/run", "--output", "here.html").returncode == 0
    assert (folder / "here.html").exists()
    assert not (run_folder / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "absent"], "there is no run to report on in absent: there is no such folder"),
        (["report", "runs/run", "--output", "absent/x.html"], "No such file or directory: 'absent/x.html'. Choose another"),
        (["report", "runs/run", "--output", "."], "Is a directory: '.'. Choose another"),
        (["report", "absent", "--watch"], "there is no folder absent to watch"),
    ],
)
def test_what_cannot_be_done_is_an_error(plugrad, run_folder, arguments, said):
    done = plugrad(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_broken_line_is_named(plugrad, run_folder):
    (run_folder / "metrics.jsonl").write_text('{"step": 1, "reward": 0.25}\n{"step"\n')
    done = plugrad("report", "runs/run")
    assert done.returncode == 0
    assert "Note: runs/run/metrics.jsonl, line 2 is not JSON" in done.stderr
    assert "0.250" in (run_folder / "report.html").read_text()


def test_the_page_that_follows_a_run_ends_with_ctrl_c(run_folder):
    command = [sys.executable, "-m", "plugrad", "report", str(run_folder), "--watch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    url = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
    with urllib.request.urlopen(url) as answer:
        assert "0.250 → 0.750" in answer.read().decode()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "Stopped.\n", "")
    assert not (run_folder / "report.html").exists()
