"""dft, positive_nll and raft by hand: cross-entropy on some tokens, and with a weight."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from plugrad_policy.losses.dft import dft
from plugrad_policy.losses.positive_nll import positive_nll
from plugrad_policy.losses.raft import raft

# Two groups of two: the first is solved once, the second never.
REWARDS = torch.tensor([1.0, 0.0, 0.25, 0.0], dtype=torch.float64)
GROUPS = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def labelled(rows):
    return rows([[2.0, 1.0], [1.0, 1.0], [1.0], [1.0]], [[0.0] * 2] * 2 + [[0.0]] * 2, reward=REWARDS, group_ids=GROUPS)


def test_dft_weighs_a_token_by_its_probability(rows, evaluate, close):
    inputs = rows([[1.0, 2.0]], [[5.0, -5.0]], probability=0.25)
    sums, gradient = evaluate(dft, inputs)
    close(gradient, [[-0.25, -0.5]])
    close(sums, [0.25 * math.log(4) + 0.5 * math.log(2)])
    assert dft(inputs).metrics["probability"].value() == pytest.approx(0.375)


def test_positive_nll_is_the_mean_over_the_tokens_of_correct_completions(labelled, evaluate, close):
    sums, gradient = evaluate(positive_nll, labelled)
    # Six tokens count, and two of them are in a correct completion.
    close(gradient, [[-3.0, -3.0], [0.0] * 2, [0.0] * 2, [0.0] * 2])
    nll = (2 - math.log(2) + 2) / 2
    close(sums.sum() / 6, nll)
    metrics = positive_nll(labelled).metrics
    assert metrics["positive_nll"].value() == pytest.approx(nll)
    assert metrics["is_positive"].value() == pytest.approx(1 / 3)


def test_positive_nll_of_a_batch_without_a_correct_completion_is_nothing(labelled, evaluate):
    sums, gradient = evaluate(positive_nll, labelled, above=1.0)
    assert not sums.any()
    assert not gradient.any()


def test_raft_learns_from_the_best_of_a_group_that_is_solved(labelled, evaluate, close):
    sums, gradient = evaluate(raft, labelled)
    close(gradient, [[-1.0, -1.0], [0.0] * 2, [0.0] * 2, [0.0] * 2])
    close(sums, [4 - math.log(2), 0.0, 0.0, 0.0])
    assert raft(labelled).metrics["is_used"].value() == pytest.approx(1 / 3)
    close(evaluate(raft, labelled, above=0.0)[1], [[-1.0, -1.0], [0.0] * 2, [-1.0, 0.0], [0.0] * 2])


def test_raft_keeps_all_that_are_best(labelled, evaluate, close):
    inputs = replace(labelled, reward=torch.tensor([1.0, 1.0, 2.0, 1.0], dtype=torch.float64))
    close(evaluate(raft, inputs)[1], [[-1.0] * 2, [-1.0] * 2, [-1.0, 0.0], [0.0] * 2])


def test_raft_with_a_clip_has_the_ratio_and_stops_above(labelled, evaluate, close):
    # The first token has the ratio 2, beyond 1.2.
    sums, gradient = evaluate(raft, labelled, clip_range=0.2)
    close(gradient, [[0.0, -1.0], [0.0] * 2, [0.0] * 2, [0.0] * 2])
    close(sums, [-1.2 - 1.0, 0.0, 0.0, 0.0])
