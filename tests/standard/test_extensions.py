"""Core's extensions, in real runs."""

import pytest

from plugrad import TrainingError

EXPLODES = """
import torch
from plugrad import LossInputs, LossOutputs

class Explodes:
    "NaN in the second step, for `times` steps."
    def __init__(self, times: int = 1):
        self.times = times

    def __call__(self, inputs: LossInputs) -> LossOutputs:
        loss = -(inputs.trainer_logprobs * inputs.advantages * inputs.loss_mask).sum()
        return LossOutputs(loss * float("nan") if 1 <= inputs.step <= self.times else loss)
"""


@pytest.fixture
def explosive(run, tmp_path):
    (tmp_path / "explodes.py").write_text(EXPLODES)

    def train(times=1, **tables):
        return run(loss={"name": "explodes.py:Explodes", "kwargs": {"times": times}}, max_steps=4, **tables)

    return train


def test_without_a_guard_a_loss_that_is_nan_stops_the_run(explosive):
    with pytest.raises(TrainingError, match=r'the loss is nan.*name = "nan_guard"'):
        explosive()


def test_nan_guard_skips_the_update_and_counts_it(explosive):
    result = explosive(extension={"name": "nan_guard"})
    assert not any("nan_guard/skipped_updates" in record for record in result.records)
    assert [record["skipped_updates"] for record in result.records] == [0, 1, 0, 0]
    assert [record["loss"] is None for record in result.records] == [False, True, False, False]


def test_nan_guard_can_stop_the_run(explosive):
    with pytest.raises(TrainingError, match="nan_guard stopped the run: the loss is nan"):
        explosive(extension={"name": "nan_guard", "kwargs": {"action": "stop"}})


def test_nan_guard_gives_up_after_too_many_in_a_row(explosive):
    with pytest.raises(TrainingError, match="2 skipped updates in a row"):
        explosive(times=3, extension={"name": "nan_guard", "kwargs": {"max_skips": 2}})


def test_timing_reports_seconds_for_every_hook(run):
    loss = [{"name": "ppo_clip"}, {"name": "entropy_bonus", "weight": 0.1}]
    records = run(loss=loss, extension=[{"name": "nan_guard"}, {"name": "timing"}]).records
    hooks = ("prepare_advantages", "compute_advantages", "prepare_loss/ppo_clip", "compute_loss/ppo_clip")
    for record in records:
        assert all(0 < record[f"timing/{hook}_s"] < record["seconds"] for hook in hooks)
    assert records[0]["timing/compute_loss/ppo_clip_s"] > 0
    assert "timing/compute_metrics_s" in records[1]
