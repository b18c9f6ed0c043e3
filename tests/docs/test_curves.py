"""The script of docs/runs that draws held-out curves and prints their table, on runs of two seeds."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "runs" / "curves.py"


@pytest.fixture
def curves(tmp_path, monkeypatch):
    """The script, in a folder with the runs of a game and of a task with one turn."""
    spec = importlib.util.spec_from_file_location("curves", SCRIPT)
    curves = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(curves)
    monkeypatch.chdir(tmp_path)
    for seed, end in ((0, 0.7), (1, 0.9)):
        game = {"eval/reward": 1.0, "eval/environment/turns": 2.5}
        solved = {0: 0.4, 5: None, 10: end}
        written(f"runs/compare-game/run-file/seed-{seed}", game, "eval/reward_components/solved", solved)
        written(f"runs/compare-word/run-file/seed-{seed}", {}, "eval/reward", {0: 0.25, 10: end})
    return curves


def written(folder, others, name, values):
    """Write a run's record, which has steps without an evaluation too."""
    Path(folder).mkdir(parents=True)
    records = [{"step": step, **({} if value is None else {**others, name: value})} for step, value in values.items()]
    Path(folder, "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))


def test_the_table_has_each_seed_and_the_picture_each_run_file(curves, tmp_path, capsys):
    curves.main("found.svg", "game", "word")
    rows = capsys.readouterr().out.splitlines()
    assert rows[2:] == [
        "| game | 0.40, 0.40 | 0.70, 0.90 | 2.50 -> 2.50 | - | - |",
        "| word | 0.25, 0.25 | 0.70, 0.90 | - | - | - |",
    ]
    svg = (tmp_path / "found.svg").read_text()
    assert svg.count(">game<") == svg.count(">word<") == 1
    assert "currentColor" in svg
