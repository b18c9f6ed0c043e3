"""The whole quickstart: a model from scratch that RL improves."""

import json

import pytest


@pytest.mark.slow
def test_quickstart(plugrad_process, folder):
    done = plugrad_process("quickstart", "--output-dir", "here", timeout=600)
    assert done.returncode == 0, done.stderr
    accuracy = {}
    for stage in ("supervised", "reinforce"):
        records = [json.loads(line) for line in (folder / "here" / stage / "metrics.jsonl").read_text().splitlines()]
        accuracy[stage] = [record["eval/reward"] for record in records if "eval/reward" in record]
        assert (folder / "here" / stage / "model" / "model.safetensors").is_file()
    assert 0.3 <= accuracy["supervised"][-1] <= 0.7
    assert accuracy["reinforce"][0] == accuracy["supervised"][-1]
    assert accuracy["reinforce"][-1] >= accuracy["reinforce"][0] + 0.25
    assert (folder / "here" / "curves.svg").read_text().startswith("<?xml")
    for part in ("reinforcement learning", "points", "run files"):
        assert part in done.stdout
