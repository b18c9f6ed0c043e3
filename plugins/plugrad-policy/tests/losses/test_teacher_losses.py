"""sdar and iw_opd by hand: which tokens a teacher's word counts at."""

from __future__ import annotations

import math

import pytest
import torch

from plugrad_policy.losses.iw_opd import iw_opd
from plugrad_policy.losses.sdar import sdar


def teacher(*gaps):
    """Return the teacher's log-probs, at these distances from those of a policy that has not moved."""
    return -2 + torch.tensor([gaps], dtype=torch.float64)


def test_sdars_gate_opens_where_the_teacher_agrees(rows, evaluate, close):
    inputs = rows([[1.0, 1.0]], [[9.0, -9.0]], teacher_logprobs=teacher(math.log(3), -math.log(3)))
    sums, gradient = evaluate(sdar, inputs, beta=1.0)
    close(gradient, [[-0.75, -0.25]])
    close(sums, [0.75 * math.log(3) - 0.25 * math.log(3)])
    metrics = sdar(inputs, beta=1.0).metrics
    assert metrics["gate"].value() == metrics["is_open"].value() == 0.5
    close(evaluate(sdar, inputs, beta=0.0)[1], [[-0.5, -0.5]])


def test_iw_opd_weighs_what_comes_before_the_disagreement(rows, evaluate, close):
    # |a| is 1, 2 and 1: before the tokens are 0, 1/4 and 3/4 of it.
    inputs = rows([[1.0, 2.0, 1.0]], [[9.0] * 3], teacher_logprobs=teacher(1.0, -2.0, 1.0))
    sums, gradient = evaluate(iw_opd, inputs, gamma=0.4)
    close(gradient, [[-1.4 * 1, 1.3 * 2, -1.1 * 1]])
    close(sums, [1.4 * 2 - 1.3 * 2 * (2 - math.log(2)) + 1.1 * 2])
    assert iw_opd(inputs, gamma=0.4).metrics["weight"].value() == pytest.approx((1.4 + 1.3 + 1.1) / 3)
    close(evaluate(iw_opd, inputs, gamma=0.0)[1], [[-1.0, 2.0, -1.0]])


def test_where_the_teacher_agrees_everywhere_there_is_nothing_to_learn(rows, evaluate, close):
    close(evaluate(iw_opd, rows([[1.0, 1.0]], [[9.0] * 2], teacher_logprobs=teacher(0.0, 0.0)))[1], [[0.0, 0.0]])
