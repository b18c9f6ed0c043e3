"""value_clip by hand, and what is not counted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import BatchLossInputs


@pytest.fixture
def critic(batch: Callable[..., BatchLossInputs]) -> Callable[..., BatchLossInputs]:
    """Build one row of tokens with these values, old values and returns."""

    def build(*columns: list[float], mask: list[bool] | None = None) -> BatchLossInputs:
        values, old, returns = (torch.tensor([row], dtype=torch.float64) for row in columns)
        counted = torch.tensor([mask or [True] * len(columns[0])])
        return batch(loss_mask=counted, values=values.requires_grad_(), old_values=old, returns=returns)

    return build


def test_by_hand(critic: Callable[..., BatchLossInputs]) -> None:
    # Near its old value; beyond the clip towards the return; beyond it away from the return.
    inputs = critic([0.1, 0.5, -0.5], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    outputs = plugrad.load("loss", "value_clip", clip=0.2)(inputs)
    torch.testing.assert_close(outputs.loss, torch.tensor([[0.405, 0.32, 1.125]], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(outputs.loss.sum(), inputs.values)
    torch.testing.assert_close(gradient, torch.tensor([[-0.9, 0.0, -1.5]], dtype=torch.float64))
    assert outputs.metrics["clip_fraction"].value() == pytest.approx(1 / 3)
    assert outputs.metrics["error"].value() == pytest.approx((0.81 + 0.25 + 2.25) / 3)
    assert outputs.metrics["value"].value() == pytest.approx(0.1 / 3)
    assert outputs.metrics["return"].value() == 1.0


def test_without_a_clip_it_is_half_the_squared_error(critic: Callable[..., BatchLossInputs]) -> None:
    loss = plugrad.load("loss", "value_clip", clip=math.inf)(critic([3.0], [0.0], [1.0])).loss
    assert loss.item() == 2.0


@pytest.mark.parametrize("far", [999.0, -999.0])
def test_the_prompt_padding_and_masked_gaps_change_nothing(critic: Callable[..., BatchLossInputs], far: float) -> None:
    mask = [False, True, False, True, False]
    found = []
    for noise in (0.0, far):
        values, old = [noise, 0.5, noise, 0.1, noise], [noise, 0.0, -noise, 0.0, noise]
        inputs = critic(values, old, [noise, 1.0, noise, 1.0, 0.0], mask=mask)
        outputs = plugrad.load("loss", "value_clip")(inputs)
        total = outputs.loss[inputs.loss_mask].sum()
        (gradient,) = torch.autograd.grad(total, inputs.values)
        found.append([total.item(), gradient.tolist(), {name: m.value() for name, m in outputs.metrics.items()}])
    assert found[0] == found[1]


def test_a_clip_that_lets_nothing_move_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match="clip"):
        plugrad.load("loss", "value_clip", clip=0.0)
