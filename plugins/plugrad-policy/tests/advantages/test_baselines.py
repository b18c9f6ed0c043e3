"""Advantages that subtract a baseline and do not divide: `rloo`, `opo`, `remax`; and `maxrl`, which divides by it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs
from plugrad_policy.advantages.maxrl import maxrl
from plugrad_policy.advantages.opo import opo
from plugrad_policy.advantages.remax import remax
from plugrad_policy.advantages.rloo import rloo

Rewards = Callable[..., AdvantageInputs]


def test_rloo_by_hand(rewards: Rewards) -> None:
    assert rloo(rewards([0.0, 0.0, 3.0])).advantages.tolist() == [[-1.5, -1.5, 3.0]]
    assert rloo(rewards([1.0, 4.0])).advantages.tolist() == [[-3.0, 3.0]]


def test_opo_by_hand(rewards: Rewards) -> None:
    # The long one is right: (1 * 0 + 3 * 1) / 4. An empty completion has no say.
    assert opo(rewards([0.0, 1.0], lengths=[[1, 3]])).advantages.tolist() == [[-0.75, 0.25]]
    assert opo(rewards([0.0, 1.0, 5.0], lengths=[[1, 3, 0]])).advantages.tolist() == [[-0.75, 0.25, 4.25]]


def test_opo_is_0_in_the_mean_over_tokens(rewards: Rewards) -> None:
    inputs = rewards([0.3, 1.0, 0.2], lengths=[[7, 2, 5]])
    assert (opo(inputs).advantages * inputs.completion_lengths).sum().item() == pytest.approx(0)


def test_opo_with_equal_lengths_is_the_group_mean(rewards: Rewards) -> None:
    inputs = rewards([0.0, 1.0, 0.5], [2.0, 2.0, 8.0])
    torch.testing.assert_close(opo(inputs).advantages, plugrad.load("advantage", "group_mean")(inputs).advantages)


def test_maxrl_by_hand(rewards: Rewards) -> None:
    # One success in four weighs 1 / (1/4) - 1 = 3; three in four 1/3.
    found = maxrl(rewards([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0])).advantages
    torch.testing.assert_close(found.tolist(), [[-1.0, -1.0, -1.0, 3.0], [1 / 3, 1 / 3, 1 / 3, -1.0]])


@pytest.mark.parametrize("group", [[0.0, 0.0], [-1.0, 1.0], [-1.0, -2.0]])
def test_maxrl_learns_nothing_where_the_mean_is_not_above_0(group: list[float], rewards: Rewards) -> None:
    assert maxrl(rewards(group)).advantages.tolist() == [[0.0, 0.0]]


def test_maxrl_does_not_hide_a_reward_that_is_nan(rewards: Rewards) -> None:
    assert maxrl(rewards([0.0, math.nan], [1.0, 0.0])).advantages.isnan().tolist() == [[True, True], [False, False]]


def test_remax_by_hand(rewards: Rewards) -> None:
    inputs = rewards([0.0, 1.0], [0.5, 0.5], greedy_rewards=torch.tensor([1.0, 0.25]))
    assert remax(inputs).advantages.tolist() == [[-1.0, 0.0], [0.25, 0.25]]


def test_remax_takes_a_single_rollout(rewards: Rewards) -> None:
    assert remax(rewards([0.75], greedy_rewards=torch.tensor([1.0]))).advantages.tolist() == [[-0.25]]


def test_remax_without_greedy_rewards_is_an_error_and_never_a_mean(rewards: Rewards) -> None:
    with pytest.raises(plugrad.ContractError, match="greedy_rewards is None"):
        remax(rewards([0.0, 1.0]))
