"""reinforce, cispo, rollout_is, sapo and vespo by hand: a weight in place of a clip."""

from __future__ import annotations

import math

import pytest

from plugrad_policy.losses.cispo import cispo
from plugrad_policy.losses.reinforce import reinforce
from plugrad_policy.losses.rollout_is import rollout_is
from plugrad_policy.losses.sapo import sapo
from plugrad_policy.losses.vespo import vespo


def test_reinforce_is_the_plain_policy_gradient(rows, evaluate, close):
    inputs = rows([[1.0, 1.0]], [[2.0, -3.0]])
    sums, gradient = evaluate(reinforce, inputs)
    close(sums, [4.0 - 6.0])
    close(gradient, [[-2.0, 3.0]])
    assert reinforce(inputs).metrics["nll"].value() == 2.0


def test_cispo_clips_the_weight_and_keeps_the_gradient(rows, evaluate, close):
    inputs = rows([[0.1, 1.0, 7.0, 7.0]], [[1.0, 1.0, 1.0, -1.0]])
    close(evaluate(cispo, inputs)[1], [[-0.1, -1.0, -5.0, 5.0]])
    close(evaluate(cispo, inputs, clip_low=0.2, clip_high=0.5)[1], [[-0.8, -1.0, -1.5, 1.5]])
    close(cispo(inputs).loss[0, :2], [0.1 * (2 - math.log(0.1)), 2.0])
    assert cispo(inputs).metrics["clip_fraction"].value() == 0.5


def test_rollout_is_masks_on_both_sides_whatever_the_advantage(rows, evaluate, close):
    inputs = rows([[0.5, 0.9, 1.2, 1.5]] * 2, [[1.0] * 4, [-1.0] * 4])
    close(evaluate(rollout_is, inputs)[1], [[0.0, -0.9, -1.2, 0.0], [0.0, 0.9, 1.2, 0.0]])
    outputs = rollout_is(inputs)
    close(outputs.loss[0, 1], 0.9 * (2 - math.log(0.9)))
    assert outputs.metrics["is_masked"].value() == 0.5


def test_sapos_gate_is_open_at_one_and_closes_on_both_sides(rows, evaluate, close):
    # sigmoid(log 3) = 3/4: at r = 1 + log 3 the gate is 4 * 3/4 * 1/4, and the loss -4 * 3/4.
    far = 1 + math.log(3)
    inputs = rows([[1.0, far, 1.0]], [[2.0, 1.0, -1.0]])
    close(sapo(inputs, tau_neg=2.0).loss[0], [-4.0, -3.0, 1.0])
    close(evaluate(sapo, inputs, tau_neg=2.0)[1][0], [-2.0, -0.75 * far, 1.0])
    assert sapo(inputs).metrics["gate"].value() == pytest.approx(2.75 / 3)


def test_sapo_holds_a_negative_advantage_back_more(rows, evaluate):
    _, gradient = evaluate(sapo, rows([[1.5, 1.5]], [[1.0, -1.0]]))
    assert 0 < gradient[0, 1] < -gradient[0, 0] < 1.5


def test_vespos_weight_of_the_sequence(rows, evaluate, close):
    inputs = rows([[1.0, 1.0], [4.0, 0.5], [4.0, 0.5]], [[2.0, 2.0], [1.0, 1.0], [-1.0, -1.0]])
    # W = 2: 2^2 exp(3 (1 - 2)) where A >= 0, 2^3 exp(2 (1 - 2)) where A < 0.
    up, down = 4 * math.exp(-3), 8 * math.exp(-2)
    close(evaluate(vespo, inputs)[1], [[-2.0, -2.0], [-up, -up], [down, down]])
    assert vespo(inputs).metrics["phi"].value() == pytest.approx((1 + up + down) / 3)


def test_vespos_weight_is_greatest_at_k_over_lambda(rows):
    def phi(ratio):
        return vespo(rows([[ratio]], [[1.0]]), k_pos=4.0, lambda_pos=2.0).metrics["phi"].value()

    assert phi(2.0) > max(phi(1.9), phi(2.1))
    assert phi(1.0) == pytest.approx(1.0)
