"""Core's advantages by hand, and where they are defined."""

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs


def advantages(name, rewards, **options):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    inputs = AdvantageInputs(rewards=rewards, completion_lengths=torch.ones(rewards.shape, dtype=torch.long))
    return plugrad.load("advantage", name, **options)(inputs).advantages.tolist()


def test_group_mean_compares_within_a_group():
    assert advantages("group_mean", [[1.0, 0.0], [5.0, 7.0]]) == [[0.5, -0.5], [-1.0, 1.0]]


def test_group_normalized_divides_by_the_unbiased_standard_deviation():
    (found,) = advantages("group_normalized", [[0.0, 1.0, 2.0]], eps=0.0)
    assert found == pytest.approx([-1.0, 0.0, 1.0])


def test_equal_rewards_give_no_signal():
    assert advantages("group_normalized", [[3.0, 3.0]]) == [[0.0, 0.0]]
    assert advantages("group_mean", [[3.0]]) == [[0.0]]


def test_constant_does_not_look_at_rewards():
    assert advantages("constant", [[3.0, -1.0]], value=2.0) == [[2.0, 2.0]]
