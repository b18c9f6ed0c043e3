"""The whole quickstart: a model from scratch that RL improves, in a folder full of files with the names of modules."""

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from .decoys import plant


@pytest.mark.slow
def test_quickstart(folder):
    plant(folder, folder / "imported")
    program = Path(sysconfig.get_path("scripts"), "plugrad")
    # Two minutes on an idle machine. The limit is for one that hangs.
    done = subprocess.run(
        [program, "quickstart", "--output-dir", "here"], capture_output=True, text=True, check=False, timeout=3000
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
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
