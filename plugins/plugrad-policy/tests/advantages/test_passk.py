"""`passk`: by hand, against every subset, and that its gradient is that of pass@k."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from math import comb

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs
from plugrad_policy.advantages.passk import passk

Rewards = Callable[..., AdvantageInputs]


def test_with_all_attempts_only_a_lonely_success_learns(rewards: Rewards) -> None:
    # By default k is the size of the group, here 4.
    found = passk(rewards([0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])).advantages
    assert found.tolist() == [[0.0, 4.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4]


def test_the_binary_formula_by_hand(rewards: Rewards) -> None:
    # Two of four are right: of the three others of a success two are wrong, 2 C(2, 1) / C(3, 1) = 4/3.
    found = passk(rewards([1.0, 0.0, 1.0, 0.0]), k=2).advantages
    torch.testing.assert_close(found.tolist(), [[4 / 3, 0.0, 4 / 3, 0.0]])


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_it_is_the_mean_over_every_set_of_others(k: int, rewards: Rewards) -> None:
    torch.manual_seed(0)
    group = torch.rand(5, dtype=torch.float64).tolist()
    expected = []
    for i, reward in enumerate(group):
        others = group[:i] + group[i + 1 :]
        leads = [max(reward - max(chosen), 0.0) for chosen in combinations(others, k - 1)]
        expected.append(k * sum(leads) / len(leads))
    torch.testing.assert_close(passk(rewards(group), k=k).advantages.tolist(), [expected])


@pytest.mark.parametrize(("k", "num_rollouts"), [(2, 2), (2, 4), (3, 4), (4, 4)])
def test_its_mean_gradient_is_that_of_pass_at_k(k: int, num_rollouts: int, rewards: Rewards) -> None:
    # A policy that succeeds with chance p: pass@k = 1 - (1 - p)^k, and d log pi / dp is 1 / p or -1 / (1 - p).
    p, total = 0.3, 0.0
    for outcome in product([0.0, 1.0], repeat=num_rollouts):
        chance = p ** sum(outcome) * (1 - p) ** (num_rollouts - sum(outcome))
        scores = torch.tensor([1 / p if success else -1 / (1 - p) for success in outcome], dtype=torch.float64)
        total += chance * (passk(rewards(list(outcome)), k=k).advantages[0] * scores).mean().item()
    assert total == pytest.approx(k * (1 - p) ** (k - 1))


def test_a_success_among_c_of_n(rewards: Rewards) -> None:
    n, c, k = 8, 3, 4
    found = passk(rewards([1.0] * c + [0.0] * (n - c)), k=k).advantages[0].tolist()
    expected = k * comb(n - c, k - 1) / comb(n - 1, k - 1)
    torch.testing.assert_close(found, [expected] * c + [0.0] * (n - c))


def test_more_attempts_than_rollouts_are_an_error(rewards: Rewards) -> None:
    with pytest.raises(plugrad.OptionError, match="k is 3, but each example has 2 rollouts"):
        passk(rewards([0.0, 1.0]), k=3)


def test_one_attempt_is_refused() -> None:
    with pytest.raises(plugrad.OptionError, match="greater than or equal to 2"):
        plugrad.load("advantage", "plugrad_policy.advantages.passk:passk", k=1)
