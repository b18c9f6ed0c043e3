"""Core's extensions, in real runs."""

import math

import pytest

from plugrad import TrainingError
from plugrad.standard.extensions.nan_guard import NanGuard
from plugrad.standard.extensions.timing import Timing

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


def test_nan_guard_goes_on_counting_after_a_resume():
    before, after = NanGuard(max_skips=3), NanGuard(max_skips=3)
    before.before_update(math.nan, 1.0)
    before.before_update(1.0, math.inf)
    after.load_state_dict(before.state_dict())
    with pytest.raises(TrainingError, match="after 3 skipped updates in a row"):
        after.before_update(math.nan, math.nan)


def test_timing_keeps_what_it_has_not_reported():
    before, after = Timing(), Timing()
    hook = before.compute_advantages(None)
    next(hook)
    with pytest.raises(StopIteration):
        hook.send("advantages")
    after.load_state_dict(before.state_dict())
    assert after.state_dict() == before.state_dict()
    assert before.state_dict()["seconds"].keys() == {"compute_advantages"}


def test_timing_reports_seconds_for_every_hook(run):
    loss = [{"name": "ppo_clip"}, {"name": "entropy_bonus", "weight": 0.1}]
    records = run(loss=loss, extension=[{"name": "nan_guard"}, {"name": "timing"}]).records
    hooks = ("prepare_advantages", "compute_advantages", "prepare_loss/ppo_clip", "compute_loss/ppo_clip")
    for record in records:
        assert all(0 < record[f"timing/{hook}_s"] < record["seconds"] for hook in hooks)
    assert records[0]["timing/compute_loss/ppo_clip_s"] > 0
    assert "timing/compute_metrics_s" in records[1]
