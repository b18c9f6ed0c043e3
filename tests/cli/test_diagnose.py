"""`plugrad diagnose`, and what a run that went nowhere says at its end."""

import json

import pytest

from plugrad.errors import RunFileError

FLAT = ["--set", "max_steps=12", "--set", "optimizer.lr=1e-9", "--set", "checkpoint.every_minutes=0"]


@pytest.fixture
def flat(plugrad):
    result = plugrad("train", "run.toml", *FLAT)
    assert result.returncode == 0, result.stderr
    return result


def test_a_flat_run_says_why_at_its_end_and_again_when_asked(plugrad, flat):
    assert "The learning rate is so small that the weights did not move\n" in flat.stdout
    assert "Set optimizer.lr to 1e-3; it is 1e-09." in flat.stdout
    # The numbers come when asked for.
    assert "lr had a mean" not in flat.stdout
    assert "plugrad diagnose" in flat.stdout
    shown = plugrad("diagnose", "runs/run")
    assert shown.returncode == 0
    assert "problem: The learning rate is so small" in shown.stdout
    assert "  do      Set optimizer.lr to 1e-3" in shown.stdout
    found = json.loads(plugrad("diagnose", "runs/run", "--json").stdout)
    assert found["steps"] == 12
    assert "learning_rate_too_small" in [finding["name"] for finding in found["findings"]]
    assert set(found["findings"][0]) == {"name", "severity", "title", "evidence", "remedy"}


def test_a_short_run_is_said_to_be_short(plugrad):
    plugrad("train", "run.toml")
    assert "The run has 3 steps." in plugrad("diagnose", "runs/run").stdout


def test_a_folder_without_a_run_is_refused(plugrad, folder):
    result = plugrad("diagnose", str(folder))
    assert result.returncode == RunFileError.exit_code
    assert "holds no run: it has no plugins.json" in result.stderr
