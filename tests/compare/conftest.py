"""Runs as they lie in a folder: their records are written by hand, so that every number can be worked out."""

import json

import pytest

from plugrad.compare.planned_run import Outcome, PlannedRun


@pytest.fixture
def finished(tmp_path):
    """Write a run that ended well: a reward and a number of tokens for each step, and what else a step records."""

    def write(arm, seed, rewards, tokens=10, **others):
        run = PlannedRun(arm, seed, tmp_path / arm / f"seed-{seed}", tmp_path / arm / "run.toml", len(rewards))
        run.folder.mkdir(parents=True)
        records = [
            {"step": step, "reward": reward, "num_tokens": tokens, "seconds": 0.5, "memory_gib": 1.0 + seed, **others}
            for step, reward in enumerate(rewards, start=1)
        ]
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        run.write(Outcome(0, len(rewards), 2.0))
        return run

    return write
