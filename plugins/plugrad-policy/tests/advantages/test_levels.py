"""`normalized`, `gpg` and `discounted_returns` by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs
from plugrad_policy.advantages.discounted_returns import discounted_returns, returns
from plugrad_policy.advantages.gpg import gpg
from plugrad_policy.advantages.grpo import grpo
from plugrad_policy.advantages.lite_ppo import lite_ppo
from plugrad_policy.advantages.normalized import normalized
from plugrad_policy.advantages.reinforce_plus_plus import reinforce_plus_plus

Rewards = Callable[..., AdvantageInputs]


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        # The group's deviations are sqrt(2) and 2 sqrt(2), the batch's is sqrt(5), its mean 3.
        ("group", "group", [[-(0.5**0.5), 0.5**0.5], [-(0.5**0.5), 0.5**0.5]]),
        ("group", "none", [[-1.0, 1.0], [-2.0, 2.0]]),
        ("group", "batch", [[-1 / 5**0.5, 1 / 5**0.5], [-2 / 5**0.5, 2 / 5**0.5]]),
        ("batch", "none", [[-2.0, 0.0], [-1.0, 3.0]]),
        ("batch", "group", [[-(2**0.5), 0.0], [-(8**-0.5), 3 * 8**-0.5]]),
        ("none", "none", [[1.0, 3.0], [2.0, 6.0]]),
    ],
)
def test_mean_and_deviation_are_chosen_apart(mean: str, std: str, expected: list[list[float]], rewards: Rewards) -> None:
    assert torch.tensor([1.0, 3.0, 2.0, 6.0]).var().item() == pytest.approx(14 / 3)
    found = normalized(rewards([1.0, 3.0], [2.0, 6.0]), mean=mean, std=std, eps=1e-12).advantages
    scale = (14 / 3 / 5) ** 0.5 if std == "batch" else 1.0
    torch.testing.assert_close(found * scale, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"std": "group", "eps": 1e-6}, grpo),
        ({"eps": 1e-4}, lite_ppo),
        ({"std": "none"}, plugrad.load("advantage", "group_mean")),
    ],
)
def test_they_are_those_of_the_papers(options: dict[str, object], other: Callable[..., object], rewards: Rewards) -> None:
    inputs = rewards([0.0, 1.0, 0.5], [2.0, 2.0, 2.0], [1.0, 0.0, 0.0])
    torch.testing.assert_close(normalized(inputs, **options).advantages, other(inputs).advantages)


def test_over_the_batch_it_is_reinforce_plus_plus_but_for_the_divisor(rewards: Rewards) -> None:
    inputs = rewards([0.0, 1.0], [0.5, 3.0])
    found = normalized(inputs, mean="batch", eps=1e-12).advantages
    torch.testing.assert_close(found * (4 / 3) ** 0.5, reinforce_plus_plus(inputs, over="rollouts").advantages)


def test_what_is_equal_is_not_blown_up(rewards: Rewards) -> None:
    assert normalized(rewards([0.1, 0.1], [0.7, 0.7]), std="group").advantages.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert normalized(rewards([3.0, 3.0]), mean="none", std="group").advantages.tolist() == [[3.0, 3.0]]
    assert normalized(rewards([3.0], [1.0]), mean="batch", std="none").advantages.tolist() == [[1.0], [-1.0]]


def test_a_group_of_one_has_no_deviation(rewards: Rewards) -> None:
    with pytest.raises(plugrad.OptionError, match="one rollout"):
        normalized(rewards([1.0], [2.0]), std="group")


def test_gpg_makes_up_for_groups_without_a_signal(rewards: Rewards) -> None:
    found = gpg(rewards([0.0, 1.0], [1.0, 1.0], [0.0, 0.0])).advantages
    assert found.tolist() == [[-1.5, 1.5], [0.0, 0.0], [0.0, 0.0]]
    assert gpg(rewards([0.0, 1.0])).advantages.tolist() == [[-0.5, 0.5]]
    assert gpg(rewards([1.0, 1.0])).advantages.tolist() == [[0.0, 0.0]]


def test_returns_are_discounted_from_the_end() -> None:
    assert returns(torch.tensor([1.0, 0.0, 4.0]), 0.5).tolist() == [2.0, 2.0, 4.0]
    assert returns(torch.tensor([]), 0.5).tolist() == []


def test_a_rollouts_reward_comes_with_its_last_token(rewards: Rewards) -> None:
    inputs = rewards([1.0, -2.0], lengths=[[3, 1]])
    found = discounted_returns(inputs, gamma=0.5).advantages
    assert [each.tolist() for each in found[0]] == [[0.25, 0.5, 1.0], [-2.0]]
    undiscounted = discounted_returns(inputs).advantages
    assert [each.tolist() for each in undiscounted[0]] == [[1.0] * 3, [-2.0]]
    assert not any(math.isnan(value) for each in undiscounted[0] for value in each)
