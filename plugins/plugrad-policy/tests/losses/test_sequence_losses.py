"""gspo, gspo_token, luspo and gmpo by hand: one ratio for the sequence."""

from __future__ import annotations

import pytest

from plugrad_policy.losses.gmpo import gmpo
from plugrad_policy.losses.gspo import gspo
from plugrad_policy.losses.gspo_token import gspo_token
from plugrad_policy.losses.luspo import luspo

WIDE = {"clip_low": 0.9, "clip_high": 9.0}
# The geometric means of the ratios are 2, 0.5 and 1.
RATIOS = [[4.0, 1.0], [0.5, 0.5], [1.0]]
ADVANTAGES = [[1.0, 1.0], [-2.0, -2.0], [1.0]]


def test_gspo_gives_each_token_the_ratio_of_its_sequence(rows, evaluate, close):
    inputs = rows(RATIOS, ADVANTAGES)
    close(gspo(inputs, **WIDE).loss[:2], [[-2.0, -2.0], [1.0, 1.0]])
    # The sum over two tokens is 2 s A, and d s / d(log pi of one) is s / 2.
    close(evaluate(gspo, inputs, **WIDE)[1], [[-2.0, -2.0], [1.0, 1.0], [-1.0, 0.0]])


def test_gspo_clips_whole_sequences_and_narrowly(rows, evaluate, close):
    inputs = rows([[1.0005, 1.0005], [1.0003, 1.0003], [0.9996, 0.9996]], [[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    outputs = gspo(inputs)
    close(outputs.loss, [[-1.0004] * 2, [-1.0003] * 2, [0.9997] * 2])
    close(evaluate(gspo, inputs)[1], [[0.0] * 2, [-1.0003] * 2, [0.0] * 2])
    assert outputs.metrics["clip_fraction"].value() == pytest.approx(2 / 3)


def test_gspo_token_is_gspo_where_a_sequence_shares_its_advantage(rows, evaluate, close):
    found, expected = (
        evaluate(gspo_token, rows(RATIOS, ADVANTAGES), **WIDE),
        evaluate(gspo, rows(RATIOS, ADVANTAGES), **WIDE),
    )
    close(found[0], expected[0])
    close(found[1], expected[1])


def test_gspo_token_gives_each_token_its_own_advantage(rows, evaluate, close):
    inputs = rows([[4.0, 1.0]], [[1.0, -3.0]])
    sums, gradient = evaluate(gspo_token, inputs, **WIDE)
    close(sums, [-2.0 + 6.0])
    close(gradient, [[-2.0, 6.0]])
    # gspo hands both the mean.
    close(evaluate(gspo, inputs, **WIDE)[1], [[2.0, 2.0]])


def test_luspo_is_gspo_with_another_reduction(rows, evaluate, close):
    sums, gradient = evaluate(luspo, rows(RATIOS, ADVANTAGES), **WIDE)
    close(sums, [-4.0, 2.0, -1.0])
    close(gradient, [[-2.0, -2.0], [1.0, 1.0], [-1.0, 0.0]])


def test_gmpo_clips_tokens_before_it_takes_the_mean(rows, evaluate, close):
    # exp(0.4) is beyond the bound of exp(0.2): the mean of log r is (0.2 + 0) / 2, and the clipped token has no gradient.
    high, bound = 2.718281828459045**0.4, {"clip_low": 0.2, "clip_high": 0.2}
    inputs = rows([[high, 1.0], [high, 1.0], [1 / high, 1.0]], [[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0]])
    up, down = 2.718281828459045**0.1, 2.718281828459045**-0.1
    outputs = gmpo(inputs, **bound)
    close(outputs.loss, [[-up, -up], [up * up, up * up], [down, down]])
    close(evaluate(gmpo, inputs, **bound)[1], [[0.0, -up], [up * up, up * up], [0.0, down]])
    assert outputs.metrics["clip_fraction"].value() == pytest.approx(2 / 6)
