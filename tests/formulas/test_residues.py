"""Which rewards are equal, and which advantages are none."""

import pytest
import torch

from plugrad import equal_rewards, no_signal

EPS = torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("rewards", "equal"),
    [
        ([35.1] * 8, True),
        ([0.0, 0.0], True),
        ([-2.0, -2.0 * (1 + 2 * EPS)], True),
        ([0.1 + 0.2, 0.3], True),
        ([1e-12, 1e-12 * (1 + EPS)], True),
        ([0.0, 1e-12], False),
        ([1e6, 1e6 + 1], False),
        ([1.0, 1.0 + 1e-5], False),
        ([1.0, -1.0], False),
        ([1.0, float("nan")], False),
        ([float("inf"), float("inf")], False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rewards_are_equal_up_to_the_last_digits_of_float32(rewards, equal, dtype):
    assert equal_rewards(torch.tensor([rewards], dtype=dtype)).tolist() == [[equal]]


def test_groups_are_compared_each_on_its_own():
    assert equal_rewards(torch.tensor([[1.0, 1.0], [1.0, 2.0]])).tolist() == [[True], [False]]


def test_advantages_that_rounding_leaves_are_none():
    found = no_signal(torch.tensor([0.0, -1e-17, 1e-10, 1e-6, -1.0], dtype=torch.float64))
    assert found.tolist() == [True, True, True, False, False]
