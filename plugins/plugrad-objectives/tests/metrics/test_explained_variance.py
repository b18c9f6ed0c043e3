"""explained_variance by hand, over shares, and without what is not counted."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import plugrad
from plugrad import MetricInputs
from plugrad.testing.inputs import metric_inputs, rollouts


def share(inputs: MetricInputs) -> Any:
    return plugrad.load("metric", "explained_variance")(inputs)["share"]


def of(old: list[float], returns: list[float], mask: list[bool] | None = None) -> MetricInputs:
    """Return one rollout with these values and returns."""
    inputs = metric_inputs(rollouts([[1.0]], lengths=[[len(old)]]))
    prompt = inputs.loss_mask.shape[1] - len(old)
    rows = [torch.tensor([[999.0] * prompt + row], dtype=torch.float64) for row in (old, returns)]
    counted = torch.tensor([[False] * prompt + (mask or [True] * len(old))])
    return MetricInputs(**{**vars(inputs), "old_values": rows[0], "returns": rows[1], "loss_mask": counted})


@pytest.mark.parametrize(
    ("old", "returns", "expected"),
    [
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], 1.0),
        ([5.0, 6.0, 7.0], [0.0, 1.0, 2.0], 1.0),
        ([1.0, 1.0, 1.0], [0.0, 1.0, 2.0], 0.0),
        ([2.0, 1.0, 0.0], [0.0, 1.0, 2.0], -3.0),
        ([0.0, 1.0, 3.0], [0.0, 2.0, 4.0], 11 / 12),
    ],
)
def test_by_hand(old: list[float], returns: list[float], expected: float) -> None:
    assert share(of(old, returns)).value() == pytest.approx(expected)


def test_shares_of_ranks_add_up_to_the_variance_of_all() -> None:
    parts = [share(of(old, returns)) for old, returns in (([0.0, 1.0], [0.0, 2.0]), ([3.0], [4.0]))]
    assert (parts[0] + parts[1]).value() == pytest.approx(11 / 12)


def test_masked_gaps_change_nothing() -> None:
    gap = of([0.0, 999.0, 1.0, 3.0], [0.0, -999.0, 2.0, 4.0], [True, False, True, True])
    assert share(gap).value() == pytest.approx(11 / 12)


def test_equal_returns_leave_nothing_to_explain() -> None:
    assert math.isnan(share(of([0.1, 0.7], [0.3, 0.3])).value())
