"""dro, topr, m2po, asymre and opmd by hand: what old samples weigh."""

from __future__ import annotations

import math

import pytest
import torch

from plugrad_policy.losses.asymre import asymre
from plugrad_policy.losses.dro import dro
from plugrad_policy.losses.m2po import m2po, runaways
from plugrad_policy.losses.opmd import opmd
from plugrad_policy.losses.reinforce import reinforce
from plugrad_policy.losses.topr import topr

LOG2 = math.log(2)


def test_dro_squares_the_log_ratio_of_the_sequence(rows, evaluate, close):
    inputs = rows([[2.0, 4.0], [1.0]], [[1.0, 1.0], [-3.0]])
    sums, gradient = evaluate(dro, inputs, beta=0.5)
    # log W is 3 log 2; the policy's log-probs are -2 + log 2 and -2 + 2 log 2.
    close(sums, [4 - 3 * LOG2 + 0.25 * (3 * LOG2) ** 2, -6.0])
    close(gradient, [[-1 + 0.5 * 3 * LOG2] * 2, [3.0, 0.0]])
    assert dro(inputs, beta=0.5).metrics["log_ratio"].value() == pytest.approx(LOG2)


def test_dro_squares_each_tokens_on_request(rows, evaluate, close):
    _, gradient = evaluate(dro, rows([[2.0, 4.0]], [[1.0, 1.0]]), beta=0.5, level="token")
    close(gradient, [[-1 + 0.5 * LOG2, -1 + 0.5 * 2 * LOG2]])


def test_dro_without_a_pull_is_reinforce(drawn, evaluate, close):
    for found, expected in zip(evaluate(dro, drawn(), beta=0.0), evaluate(reinforce, drawn()), strict=True):
        close(found, expected)


def test_topr_lets_bad_samples_fade(rows, evaluate, close):
    # W is 4 and 1/8. A good sample weighs 1 whatever W is, a bad one at most 1.
    ratios = [[4.0, 1.0], [0.5, 0.25]]
    close(evaluate(topr, rows(ratios, [[1.0, 1.0], [1.0, 1.0]]))[1], [[-1.0] * 2, [-1.0] * 2])
    bad = rows(ratios, [[-1.0, -1.0], [-2.0, -2.0]])
    close(evaluate(topr, bad)[1], [[1.0] * 2, [0.25] * 2])
    assert topr(bad).metrics["weight"].value() == pytest.approx((1 + 0.125) / 2)
    close(evaluate(topr, bad, level="token")[1], [[1.0, 1.0], [1.0, 0.5]])


def test_m2po_masks_the_greatest_until_the_mean_is_small(rows, evaluate, close):
    # Candidates, where A pushes away from 1, have log r of 0.1, 0.2 and 0.6: squares 0.01, 0.04 and 0.36. Two have the mean
    # 0.025. The fourth token comes back, and the fifth goes the other way.
    moved = [0.1, 0.6, -0.2, 2.0, -2.0]
    inputs = rows([[math.exp(log_ratio) for log_ratio in moved]], [[1.0, 1.0, -1.0, -1.0, 1.0]])
    outputs = m2po(inputs)
    close(evaluate(m2po, inputs)[1], [[-math.exp(0.1), 0.0, math.exp(-0.2), math.exp(2), -math.exp(-2)]])
    assert outputs.metrics["is_masked"].value() == 0.2
    assert outputs.metrics["second_moment"].value() == pytest.approx(0.41 / 3)
    assert m2po(inputs, threshold=0.41 / 3).metrics["is_masked"].value() == 0
    assert m2po(inputs, threshold=0.009).metrics["is_masked"].value() == 0.6


def test_m2po_masks_nothing_on_policy(rows):
    assert m2po(rows([[1.0, 1.0]], [[1.0, -1.0]])).metrics["is_masked"].value() == 0


def test_of_runaways_that_are_equal_but_for_rounding_the_first_is_masked():
    values = torch.tensor([[0.1, 0.1 + 1e-16, 0.1 - 1e-16]], dtype=torch.float64)
    candidates = torch.ones_like(values, dtype=torch.bool)
    assert not runaways(values, candidates, 0.1).any()
    assert runaways(torch.cat([values * 0, values], dim=1), candidates.repeat(1, 2), 0.05).tolist() == [[False] * 6]
    assert runaways(torch.cat([values * 0, values], dim=1), candidates.repeat(1, 2), 0.04).tolist() == [
        [False] * 3 + [True, False, False]
    ]
    assert not runaways(values, ~candidates, 0.1).any()


def test_asymre_shifts_the_baseline(rows, evaluate, close):
    inputs = rows([[1.0, 1.0]], [[0.5, -0.5]])
    sums, gradient = evaluate(asymre, inputs)
    close(gradient, [[-0.6, 0.4]])
    close(sums, [2 * 0.6 - 2 * 0.4])
    close(evaluate(asymre, inputs, baseline_shift=0.0)[1], [[-0.5, 0.5]])


def test_opmd_takes_smaller_steps(rows, evaluate, close):
    sums, gradient = evaluate(opmd, rows([[1.0, 1.0]], [[2.0, -3.0]]), tau=3.0)
    close(sums, [(4.0 - 6.0) / 4])
    close(gradient, [[-0.5, 0.75]])
