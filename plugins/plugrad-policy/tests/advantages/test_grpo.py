"""`grpo`: the numbers by hand, with each option."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs
from plugrad_policy.advantages.grpo import grpo

Rewards = Callable[..., AdvantageInputs]


def test_by_hand(rewards: Rewards) -> None:
    # Of 0, 2, 4: mean 2, squares 4 + 0 + 4, over 2.
    found = grpo(rewards([0.0, 2.0, 4.0]), eps=1e-12).advantages
    torch.testing.assert_close(found.tolist(), [[-1.0, 0.0, 1.0]])


def test_the_biased_deviation_divides_by_all(rewards: Rewards) -> None:
    # Of 0, 0, 1, 1: mean 1/2, squares 4 * 1/4, over 4.
    found = grpo(rewards([0.0, 0.0, 1.0, 1.0]), unbiased=False, eps=1e-12).advantages
    torch.testing.assert_close(found.tolist(), [[-1.0, -1.0, 1.0, 1.0]])


def test_a_singleton_has_no_advantage_or_is_refused(rewards: Rewards) -> None:
    assert grpo(rewards([3.0]), unbiased=False).advantages.tolist() == [[0.0]]
    with pytest.raises(plugrad.OptionError, match="compared to 1, too few"):
        grpo(rewards([3.0]))


def test_leave_one_out_compares_with_the_others(rewards: Rewards) -> None:
    # 0 is compared with 2 and 4: mean 3, deviation sqrt(2). 2 with 0 and 4: mean 2. 4 with 0 and 2: mean 1.
    found = grpo(rewards([0.0, 2.0, 4.0]), leave_one_out=True, eps=1e-12).advantages
    torch.testing.assert_close(found.tolist(), [[-3 / math.sqrt(2), 0.0, 3 / math.sqrt(2)]])


def test_leave_one_out_does_not_divide_where_the_others_are_equal(rewards: Rewards) -> None:
    # The one success is compared with equal failures; a failure with 0, 0, 1: mean 1/3, deviation sqrt(1/3).
    found = grpo(rewards([1.0, 0.0, 0.0, 0.0]), leave_one_out=True, eps=1e-12).advantages
    failure = -1 / 3 / math.sqrt(1 / 3)
    torch.testing.assert_close(found.tolist(), [[1.0, failure, failure, failure]])


def test_leave_one_out_needs_two_others_for_an_unbiased_deviation(rewards: Rewards) -> None:
    with pytest.raises(plugrad.OptionError, match="compared to 1, too few"):
        grpo(rewards([0.0, 1.0]), leave_one_out=True)
    assert grpo(rewards([0.0, 1.0]), leave_one_out=True, unbiased=False).advantages.tolist() == [[-1.0, 1.0]]


def test_eps_is_added_to_the_deviation(rewards: Rewards) -> None:
    found = grpo(rewards([0.0, 2.0, 4.0]), eps=2.0).advantages
    torch.testing.assert_close(found.tolist(), [[-0.5, 0.0, 0.5]])


@pytest.mark.parametrize("eps", [0.0, -1.0])
def test_eps_is_above_0(eps: float) -> None:
    with pytest.raises(plugrad.OptionError, match="greater than 0"):
        plugrad.load("advantage", "plugrad_policy.advantages.grpo:grpo", eps=eps)
