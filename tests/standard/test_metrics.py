"""Core's metrics on two groups of two, by hand."""

import math

import pytest
import torch

import plugrad
from plugrad import MetricInputs


def rollout(reward, length, truncated=False):
    return {"reward": reward, "completion_ids": [0] * length, "truncated": truncated}


@pytest.fixture
def inputs():
    mask = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 1]]).bool()
    trainer = torch.where(mask, -1.0, 0.0)
    inference = trainer.clone()
    inference[0, 1] -= math.log(2)
    return MetricInputs(
        rollouts=[[rollout(1.0, 2), rollout(0.0, 1)], [rollout(2.0, 2), rollout(2.0, 2, truncated=True)]],
        rewards=torch.tensor([1.0, 0.0, 2.0, 2.0]),
        advantages=torch.tensor([[0.5], [-0.5], [0.0], [0.0]]).expand(4, 3) * mask,
        loss_mask=mask,
        trainer_logprobs=trainer,
        inference_logprobs=inference,
        group_ids=torch.tensor([0, 0, 1, 1]),
        entropy=torch.where(mask, 0.25, 0.0),
    )


def values(name, inputs):
    return {key: measure.value() for key, measure in plugrad.load("metric", name)(inputs).items()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reward", {"mean": 1.25, "min": 0.0, "max": 2.0, "equal_groups": 0.5}),
        ("completion_length", {"mean": 1.75, "max": 2.0, "truncated": 0.25}),
        ("entropy", {"mean": 0.25}),
        ("inference_mismatch", {"kl": (2 - math.log(2) - 1) / 7, "max_ratio": 2.0}),
        ("advantage", {"mean": 0.5 / 7, "mean_abs": 1.5 / 7, "max_abs": 0.5, "zero": 4 / 7}),
    ],
)
def test_metric(name, expected, inputs):
    assert values(name, inputs) == pytest.approx(expected, rel=1e-6)


def test_replayed_completions_have_no_mismatch(inputs):
    import dataclasses

    assert values("inference_mismatch", dataclasses.replace(inputs, inference_logprobs=None)) == {}
