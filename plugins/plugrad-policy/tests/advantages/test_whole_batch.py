"""Advantages that are normalised over the whole batch: `reinforce_plus_plus` with and without baseline, and `lite_ppo`."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs
from plugrad_policy.advantages.lite_ppo import lite_ppo
from plugrad_policy.advantages.reinforce_plus_plus import reinforce_plus_plus
from plugrad_policy.advantages.reinforce_plus_plus_baseline import reinforce_plus_plus_baseline

Rewards = Callable[..., AdvantageInputs]


def test_reinforce_plus_plus_by_hand(rewards: Rewards) -> None:
    # Of 0, 0, 4, 4 the mean is 2 and so is the deviation, whichever group they are in.
    expected = [[-1.0, -1.0], [1.0, 1.0]]
    found = reinforce_plus_plus(rewards([0.0, 0.0], [4.0, 4.0]), eps=1e-12).advantages
    torch.testing.assert_close(found.tolist(), expected)


def test_a_long_completion_weighs_more(rewards: Rewards) -> None:
    # One token of 0 and three of 4: mean 3, variance (9 + 3) / 4.
    inputs = rewards([0.0], [4.0], lengths=[[1], [3]])
    by_tokens = reinforce_plus_plus(inputs, eps=1e-12).advantages
    torch.testing.assert_close(by_tokens.tolist(), [[-math.sqrt(3)], [1 / math.sqrt(3)]])
    by_rollouts = reinforce_plus_plus(inputs, over="rollouts", eps=1e-12).advantages
    torch.testing.assert_close(by_rollouts.tolist(), [[-1.0], [1.0]])


@pytest.mark.parametrize("advantage", [reinforce_plus_plus, reinforce_plus_plus_baseline])
def test_over_the_tokens_mean_and_variance_are_0_and_1(
    advantage: Callable[..., plugrad.AdvantageOutputs], rewards: Rewards
) -> None:
    inputs = rewards([0.3, 1.0, 0.2], [0.9, 0.1, 0.4], lengths=[[7, 2, 0], [5, 1, 3]])
    tokens = advantage(inputs, eps=1e-15).advantages.flatten().repeat_interleave(inputs.completion_lengths.flatten())
    torch.testing.assert_close(tokens.mean().item(), 0.0)
    torch.testing.assert_close(tokens.var(correction=0).item(), 1.0)


def test_a_single_rollout_has_no_advantage(rewards: Rewards) -> None:
    assert reinforce_plus_plus(rewards([3.0])).advantages.tolist() == [[0.0]]


def test_with_baseline_by_hand(rewards: Rewards) -> None:
    # The differences are -1, 1 and -3, 3: variance (1 + 1 + 9 + 9) / 4.
    found = reinforce_plus_plus_baseline(rewards([10.0, 12.0], [0.0, 6.0]), eps=1e-12).advantages
    by_root_5 = [[-1 / math.sqrt(5), 1 / math.sqrt(5)], [-3 / math.sqrt(5), 3 / math.sqrt(5)]]
    torch.testing.assert_close(found.tolist(), by_root_5)


def test_with_baseline_a_group_of_equal_rewards_is_0_where_lengths_are_equal(rewards: Rewards) -> None:
    found = reinforce_plus_plus_baseline(rewards([5.0, 5.0], [0.0, 6.0])).advantages
    assert found[0].tolist() == [0.0, 0.0]


def test_lite_ppo_by_hand(rewards: Rewards) -> None:
    # Of 0, 2, 4, 6 the mean is 3; squares 9 + 1 + 1 + 9, over 3.
    found = lite_ppo(rewards([0.0, 2.0], [4.0, 6.0]), eps=1e-12).advantages
    one = 1 / math.sqrt(20 / 3)
    torch.testing.assert_close(found.tolist(), [[-one, one], [-one, one]])


def test_an_unknown_weighting_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match="'tokens' or 'rollouts'"):
        plugrad.load("advantage", "plugrad_policy.advantages.reinforce_plus_plus:reinforce_plus_plus", over="sequences")
