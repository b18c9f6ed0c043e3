"""fipo by hand: a token's weight comes from what follows it."""

from __future__ import annotations

import math

import pytest
import torch

from plugrad_policy.losses.dapo import dapo
from plugrad_policy.losses.fipo import discounted_future, fipo


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_the_future_is_halved_every_half_life(length):
    values = torch.randn(2, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))
    found = discounted_future(values, half_life=3.0)
    for t in range(length):
        expected = sum(2 ** (-(k - t) / 3) * values[:, k] for k in range(t, length))
        torch.testing.assert_close(found[:, t], expected)


def test_a_token_weighs_what_became_of_the_rest(rows, evaluate, close):
    # log r is 0, 0.1 and 0; halved at each token, F is 0.05, 0.1 and 0. What pads the row adds nothing.
    inputs = rows([[1.0, math.exp(0.1), 1.0], [1.0]], [[1.0] * 3, [1.0]])
    _, gradient = evaluate(fipo, inputs, half_life=1.0)
    close(gradient, [[-math.exp(0.05), -math.exp(0.1 + 0.1), -1.0], [-1.0, 0.0, 0.0]])
    assert fipo(inputs, half_life=1.0).metrics["future_kl"].value() == pytest.approx(0.15 / 4)


def test_a_weight_below_1_is_1_unless_both_ways_are_wanted(rows, evaluate, close):
    inputs = rows([[1.0, math.exp(-0.2)]], [[-1.0, -1.0]])
    close(evaluate(fipo, inputs, half_life=1.0, clip_low=0.5)[1], [[1.0, math.exp(-0.2)]])
    both = {"half_life": 1.0, "clip_low": 0.5, "high_only": False}
    close(evaluate(fipo, inputs, **both)[1], [[math.exp(-0.1), math.exp(-0.2) * math.exp(-0.2)]])


def test_a_runaway_is_left_out_of_the_future_and_has_a_ceiling(rows, evaluate, close):
    inputs = rows([[1.0, 20.0]], [[-1.0, -1.0]])
    sums, gradient = evaluate(fipo, inputs)
    close(gradient, [[1.0, 0.0]])
    close(sums, [1.0 + 10.0])


def test_a_bad_token_that_is_far_up_is_not_punished_more(rows, evaluate, close):
    inputs = rows([[5.0]], [[-1.0]])
    close(evaluate(fipo, inputs)[1], [[1.2 * 5]])
    close(evaluate(fipo, inputs, safety=4.0)[1], [[5.0]])


def test_on_policy_it_is_dapo(drawn, evaluate, close):
    for found, expected in zip(evaluate(fipo, drawn(on_policy=True)), evaluate(dapo, drawn(on_policy=True)), strict=True):
        close(found, expected)
