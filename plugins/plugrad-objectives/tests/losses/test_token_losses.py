"""focal and reward_shaping by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import BatchLossInputs

Rows = Callable[..., BatchLossInputs]


def test_focal_by_hand(rows: Rows) -> None:
    inputs = rows([[math.log(0.5), math.log(0.9)]])
    outputs = plugrad.load("loss", "focal")(inputs)
    expected = torch.tensor([0.25 * math.log(2), -0.01 * math.log(0.9)], dtype=torch.float64)
    torch.testing.assert_close(outputs.loss[0, 1:], expected)
    (gradient,) = torch.autograd.grad(outputs.loss[inputs.loss_mask].sum(), inputs.trainer_logprobs)
    # By log p: -(1 - p)^2 + 2 p (1 - p) log p.
    slopes = [-((1 - p) ** 2) + 2 * p * (1 - p) * math.log(p) for p in (0.5, 0.9)]
    torch.testing.assert_close(gradient, torch.tensor([[0.0, *slopes]], dtype=torch.float64))
    assert outputs.metrics["weight"].value() == pytest.approx((0.25 + 0.01) / 2)
    assert outputs.metrics["nll"].value() == pytest.approx((math.log(2) - math.log(0.9)) / 2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_token_that_the_model_is_sure_of_has_no_loss_and_a_finite_gradient(rows: Rows, gamma: float) -> None:
    inputs = rows([[0.0, -40.0]])
    outputs = plugrad.load("loss", "focal", gamma=gamma)(inputs)
    (gradient,) = torch.autograd.grad(outputs.loss[inputs.loss_mask].sum(), inputs.trainer_logprobs)
    assert outputs.loss[0, 1] == 0
    assert gradient.isfinite().all()
    assert gradient[0, 1].item() == pytest.approx(-1.0 if gamma == 0 else 0.0, abs=1e-12)


def test_reward_shaping_by_hand(rows: Rows) -> None:
    # r = 1.5 with A = 1: clipped to 1.2. r = 0.5 with A = 1: not clipped.
    row = torch.zeros(1, 3, dtype=torch.float64)
    inputs = rows(
        [[-1.0, -1.0]],
        old_logprobs=torch.tensor([[0.0, -1 - math.log(1.5), -1 + math.log(2)]], dtype=torch.float64),
        advantages=torch.ones_like(row),
        values=(row + 0.5).requires_grad_(),
        returns=row + 2.5,
        entropy=(row + 1.0).requires_grad_(),
    )
    outputs = plugrad.load("loss", "reward_shaping")(inputs)
    expected = torch.tensor([-1.2, -0.5], dtype=torch.float64) + 0.5 * 4 - 0.01
    torch.testing.assert_close(outputs.loss[0, 1:], expected)
    leaves = [inputs.trainer_logprobs, inputs.values, inputs.entropy]
    found = torch.autograd.grad(outputs.loss[inputs.loss_mask].sum(), leaves)
    wanted = ([0.0, 0.0, -0.5], [0.0, -2.0, -2.0], [0.0, -0.01, -0.01])
    for gradient, slopes in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, torch.tensor([slopes], dtype=torch.float64))
    measures = {name: measure.value() for name, measure in outputs.metrics.items()}
    assert measures == pytest.approx({"policy": -0.85, "error": 4.0, "entropy": 1.0, "clip_fraction": 0.5})
