"""real and a_star_po by hand: rewards as labels, and as the target of a regression."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from plugrad_policy.losses.a_star_po import a_star_po
from plugrad_policy.losses.real import real


def test_real_classifies_the_completions_of_a_group(rows, evaluate, close):
    # The logits s are log 2, 0 and -log 2 in the first group, and 0 in the second, of a single correct completion.
    inputs = rows(
        [[2.0, 2.0], [4.0, 0.25], [0.5], [1.0]],
        [[0.0] * 2, [0.0] * 2, [0.0], [0.0]],
        reward=torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64),
        group_ids=torch.tensor([0, 0, 0, 1]),
    )
    outputs = real(inputs, tau=1.0)
    first, second = math.log(1 + 0.5 + 1) + math.log(1 + 0.5), math.log(2)
    close(outputs.loss, [[first] * 2, [first] * 2, [first] * 2, [second] * 2])
    assert outputs.metrics["accuracy"].value() == 0.5
    assert outputs.metrics["is_correct"].value() == 0.75
    # As the reduction `group` weighs it: 1 / (G T_g) for each token.
    weights = torch.tensor([[0.1] * 2, [0.1] * 2, [0.1, 0.0], [0.5, 0.0]], dtype=torch.float64)
    objective = (outputs.loss * weights).sum()
    close(objective, (first + second) / 2)
    (gradient,) = torch.autograd.grad(objective, inputs.trainer_logprobs)
    down, alike, up = 0.5 / 2.5 / 2, 1 / 2.5 / 2, 0.5 / 1.5
    close(gradient, [[-down / 2] * 2, [-alike / 2] * 2, [up / 2, 0.0], [-0.5 / 2, 0.0]])


def test_real_has_bounded_weights_far_away(rows, evaluate):
    inputs = rows([[1e-30], [1e30]], [[0.0]] * 2, reward=torch.tensor([1.0, 0.0], dtype=torch.float64))
    _, gradient = evaluate(real, inputs, tau=0.5)
    assert gradient.tolist() == [[pytest.approx(-2)], [pytest.approx(2)]]


def test_a_completion_without_a_token_has_no_label(rows):
    inputs = rows([[2.0], [2.0]], [[0.0]] * 2, reward=torch.ones(2, dtype=torch.float64), group_ids=torch.tensor([0, 0]))
    emptied = replace(inputs, loss_mask=torch.tensor([[True], [False]]))
    alone = real(emptied, tau=1.0)
    assert alone.loss[0, 0].item() == pytest.approx(math.log(1 + 0.5))
    assert alone.metrics["is_correct"].value() == 1


def test_a_star_po_regresses_on_the_optimal_advantage(rows, evaluate, close):
    # The reference was rewarded in half of its completions: V* = 0.5 log((e^2 + 1) / 2).
    value = 0.5 * math.log((math.e**2 + 1) / 2)
    inputs = rows(
        [[2.0, 2.0], [1.0]],
        [[9.0, 9.0], [9.0]],
        reward=torch.tensor([1.0, 0.0], dtype=torch.float64),
        metadata=[{"reference_rewards": [1.0, 0.0]}, {"reference_rewards": [1.0, 0.0, 1.0, 0.0]}],
    )
    sums, gradient = evaluate(a_star_po, inputs, beta2=0.5)
    first, second = 0.5 * 2 * math.log(2) - (1 - value), value
    close(sums, [first**2, second**2])
    close(gradient, [[2 * 0.5 * first] * 2, [2 * 0.5 * second, 0.0]])
    metrics = a_star_po(inputs).metrics
    assert metrics["v_star"].value() == pytest.approx(value)
    assert metrics["from_group"].value() == 0


def test_without_the_column_the_group_estimates_v_star(rows):
    inputs = rows(
        [[1.0], [1.0], [1.0]],
        [[0.0]] * 3,
        reward=torch.tensor([1.0, 0.0, 0.25], dtype=torch.float64),
        group_ids=torch.tensor([0, 0, 1]),
    )
    value = 0.5 * math.log((math.e**2 + 1) / 2)
    metrics = a_star_po(inputs).metrics
    assert metrics["v_star"].value() == pytest.approx((2 * value + 0.25) / 3)
    assert metrics["from_group"].value() == 1
