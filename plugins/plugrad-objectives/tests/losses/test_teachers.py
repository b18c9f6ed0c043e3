"""distillation, gkd and opd by hand: the loss, and the advantage of the same name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, BatchLossInputs, TeacherDivergence
from plugrad.testing.inputs import rollouts

Rows = Callable[..., BatchLossInputs]


def test_distillation_keeps_the_size_of_the_gradient(rows: Rows) -> None:
    divergence = torch.tensor([[9.0, 0.1, 0.3]], dtype=torch.float64, requires_grad=True)
    inputs = rows([[-1.0, -1.0]], teacher_divergence=divergence)
    outputs = plugrad.load("loss", "distillation", temperature=2.0)(inputs)
    torch.testing.assert_close(outputs.loss[0, 1:], torch.tensor([0.4, 1.2], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(outputs.loss[inputs.loss_mask].sum(), divergence)
    assert gradient.tolist() == [[0.0, 4.0, 4.0]]
    assert outputs.metrics["divergence"].value() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "options", "need"),
    [
        ("distillation", {}, TeacherDivergence("forward")),
        ("distillation", {"kind": "reverse", "temperature": 2.0}, TeacherDivergence("reverse", temperature=2.0)),
        ("distillation", {"kind": "jsd", "beta": 0.3}, TeacherDivergence("jsd", beta=0.3)),
        ("gkd", {}, TeacherDivergence("jsd", beta=0.5)),
        ("gkd", {"beta": 0.0}, TeacherDivergence("forward")),
        ("gkd", {"beta": 1.0, "temperature": 0.9}, TeacherDivergence("reverse", temperature=0.9)),
    ],
)
def test_the_divergence_is_what_the_options_say(name: str, options: dict[str, Any], need: TeacherDivergence) -> None:
    assert plugrad.load("loss", name, **options).bound.divergence == need


def test_gkd_is_the_divergence_itself(rows: Rows) -> None:
    inputs = rows([[-1.0]], teacher_divergence=torch.tensor([[9.0, 0.5]], dtype=torch.float64))
    outputs = plugrad.load("loss", "gkd", temperature=2.0)(inputs)
    assert outputs.loss[0, 1] == 0.5
    assert outputs.metrics["divergence"].value() == 0.5


def test_opd_by_hand(rows: Rows) -> None:
    # Weights 1, 4 and 8: the last one is dropped.
    sampled = [[7.0, -1.0, -1 - math.log(4), -1 - math.log(8)]]
    inputs = rows(
        [[-1.0, -1.0, -1.0]],
        inference_logprobs=torch.tensor(sampled, dtype=torch.float64),
        teacher_logprobs=torch.tensor([[7.0, -0.5, -3.0, -0.5]], dtype=torch.float64),
        advantages=torch.ones(1, 4, dtype=torch.float64),
    )
    outputs = plugrad.load("loss", "opd", reward_weight=0.5)(inputs)
    (gradient,) = torch.autograd.grad(outputs.loss[inputs.loss_mask].sum(), inputs.trainer_logprobs)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, -1.0, 6.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(outputs.loss[0, 1:], torch.tensor([1.0, -6.0, 0.0], dtype=torch.float64))
    assert outputs.metrics["gap"].value() == pytest.approx(-1 / 3)
    assert outputs.metrics["dropped"].value() == pytest.approx(1 / 3)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, [[0.5, -2.0], [0.0]]), (2.0, [[1.5, -1.0], [-1.0]])])
def test_opd_as_an_advantage_by_hand(weight: float, expected: list[list[float]]) -> None:
    def tensors(*given: list[float]) -> list[list[torch.Tensor]]:
        return [[torch.tensor(row, dtype=torch.float64) for row in given]]

    inputs = AdvantageInputs(
        rollouts=rollouts([[1.0, 0.0]], lengths=[[2, 1]]),
        teacher_logprobs=tensors([-0.5, -3.0], [-1.0]),
        old_logprobs=tensors([-1.0, -1.0], [-1.0]),
    )
    outputs = plugrad.load("advantage", "opd", reward_weight=weight)(inputs)
    assert [row.tolist() for row in outputs.advantages[0]] == expected


@pytest.mark.parametrize(("name", "options"), [("gkd", {"beta": 1.5}), ("distillation", {"temperature": 0.0})])
def test_an_option_that_makes_no_sense_is_an_error(name: str, options: dict[str, float]) -> None:
    with pytest.raises(plugrad.OptionError, match=next(iter(options))):
        plugrad.load("loss", name, **options)
