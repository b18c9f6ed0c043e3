"""`soft_clip`: the formula, its gradient, and the promises of every loss."""

from __future__ import annotations

import math

import pytest
import torch

import plugrad
from plugrad import LossInputs
from plugrad.testing import Check, conformance, loss_checks
from plugrad_example.soft_clip import soft_clip


def sequence(ratios: list[float], advantages: list[float]) -> LossInputs:
    """Return a sequence whose tokens have these ratios between the policy and the old one."""
    old = torch.full((len(ratios),), -2.0, dtype=torch.float64)
    policy = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    mask = torch.ones(len(ratios), dtype=torch.bool)
    return LossInputs(
        trainer_logprobs=policy,
        inference_logprobs=old,
        advantages=torch.tensor(advantages, dtype=torch.float64),
        loss_mask=mask,
        old_logprobs=old,
    )


def test_where_the_policy_has_not_moved_the_gradient_is_the_plain_policy_gradient() -> None:
    inputs = sequence([1.0, 1.0], advantages=[2.0, -3.0])
    outputs = soft_clip(inputs)
    outputs.loss.sum().backward()
    torch.testing.assert_close(outputs.loss.tolist(), [0.0, 0.0])
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [-2.0, 3.0])
    assert outputs.metrics["gate"].value() == 1.0


def test_the_formula_by_hand() -> None:
    # sigmoid(log 3) = 3/4: for a ratio of 3 and A > 0 the loss is -2 A log(2 * 3/4), and the gate 2 * 1/4.
    inputs = sequence([3.0, 1 / 3, 3.0, 1 / 3], advantages=[1.0, 1.0, -4.0, -4.0])
    outputs = soft_clip(inputs, width=1.0)
    outputs.loss.sum().backward()
    along, against = -2 * math.log(3 / 2), -2 * math.log(1 / 2)
    torch.testing.assert_close(outputs.loss.tolist(), [along, against, 4 * against, 4 * along])
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [-0.5, -1.5, 6.0, 2.0])
    assert outputs.metrics["gate"].value() == pytest.approx(1.0)


def test_a_smaller_width_closes_the_gate_sooner() -> None:
    # At half the width x is doubled: sigmoid(2 log 3) = 9/10.
    inputs = sequence([3.0, 3.0], advantages=[1.0, -1.0])
    outputs = soft_clip(inputs, width=0.5)
    outputs.loss.sum().backward()
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [-0.2, 1.8])


def test_it_pushes_every_token_the_way_of_its_advantage_and_at_most_twice_as_hard() -> None:
    inputs = sequence([0.01, 0.5, 1.0, 2.0, 100.0], advantages=[1.0] * 5)
    soft_clip(inputs, width=1.0).loss.sum().backward()
    push = (-inputs.trainer_logprobs.grad).tolist()
    assert push == sorted(push, reverse=True)
    assert 1.95 < push[0] < 2
    assert 0 < push[-1] < 0.05


def test_a_token_without_advantage_has_no_gradient() -> None:
    inputs = sequence([0.5, 1.0, 2.0], advantages=[0.0, 0.0, 0.0])
    soft_clip(inputs).loss.sum().backward()
    assert inputs.trainer_logprobs.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("width", [0.05, 2.0])
def test_it_keeps_the_promises_of_a_loss_at_other_widths(width: float) -> None:
    for check in loss_checks("soft_clip", options={"width": width}, strict=True):
        if check.name not in ("import_effects", "one_rank_equals_two"):
            check()


@conformance("soft_clip", kind="loss", strict=True)
def test_it_keeps_the_promises_of_a_loss(check: Check) -> None:
    check()


@pytest.mark.parametrize("reference", ["soft_clip", "plugrad-example/soft_clip"])
def test_it_is_found_by_name(reference: str) -> None:
    found = plugrad.load("loss", reference, width=2.0)
    assert found.needs == {"old_logprobs"}
    assert found.reduction == "token"
    assert found.options == {"width": 2.0}
    # At twice the width x is halved: sigmoid(log(9) / 2) = 3/4, for the sum of two tokens.
    assert found(sequence([9.0, 9.0], advantages=[1.0, 2.0])).loss.item() == pytest.approx(-12 * math.log(3 / 2))


def test_a_misspelt_option_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match=r"'widht'\. Did you mean 'width'"):
        plugrad.load("loss", "soft_clip", widht=0.1)


@pytest.mark.parametrize("width", [0.0, -0.2, math.inf, math.nan])
def test_a_width_that_makes_no_sense_is_an_error(width: float) -> None:
    with pytest.raises(plugrad.OptionError, match="above 0"):
        soft_clip(sequence([1.0], advantages=[1.0]), width=width)
