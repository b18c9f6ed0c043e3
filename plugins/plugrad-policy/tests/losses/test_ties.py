"""Tokens that are equal but for rounding: which of them is chosen does not depend on their last digits."""

from __future__ import annotations

import itertools

import pytest
import torch

from plugrad_policy.losses.entropy_quantile_bonus import entropy_quantile_bonus
from plugrad_policy.losses.kl_cov import kl_cov
from plugrad_policy.losses.ties import greatest
from plugrad_policy.losses.top_entropy_quantile import top_entropy_quantile

NOISE = {torch.float64: 1e-15, torch.float32: 1e-6}
VALUES = [[2.0, 1.0, 1.0], [1.0, 0.5, 9.0]]
COUNTED = torch.tensor([[True, True, True], [True, True, False]])


def noisy(values, dtype=torch.float64):
    """Yield the values with every choice of last digits at the three that are 1."""
    exact = torch.tensor(values, dtype=dtype)
    for signs in itertools.product([-1, 0, 1], repeat=3):
        moved = exact.clone()
        moved[exact == 1] += NOISE[dtype] * torch.tensor(signs, dtype=dtype)
        yield moved


@pytest.mark.parametrize("dtype", NOISE)
@pytest.mark.parametrize(
    ("number", "chosen"),
    [
        (0, []),
        (1, [(0, 0)]),
        (2, [(0, 0), (0, 1)]),
        (3, [(0, 0), (0, 1), (0, 2)]),
        (4, [(0, 0), (0, 1), (0, 2), (1, 0)]),
        (5, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
        (9, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
    ],
)
def test_of_equal_values_the_first_are_the_greatest(number, chosen, dtype):
    for values in noisy(VALUES, dtype):
        found = greatest(values, COUNTED, number, tolerance=10 * NOISE[dtype])
        assert [tuple(place) for place in found.nonzero().tolist()] == chosen


def test_where_nothing_counts_nothing_is_chosen():
    assert not greatest(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool), 2, tolerance=0.0).any()


@pytest.mark.parametrize("share", [0.2, 0.4, 0.5, 0.6, 0.8])
def test_equal_entropies_are_chosen_together(share, rows):
    of_top, of_bonus = set(), set()
    for values in noisy(VALUES):
        inputs = rows([[1.0] * 3, [1.0] * 2], [[1.0] * 3, [1.0] * 2], entropy=values)
        of_top.add(top_entropy_quantile(inputs, quantile=share).metrics["is_masked"].value())
        of_bonus.add(entropy_quantile_bonus(inputs, quantile=1 - share).metrics["is_raised"].value())
    assert len(of_top) == len(of_bonus) == 1


def test_without_a_covariance_rounding_chooses_nothing(rows):
    # The mean of equal advantages is off by a rounding, which would decide.
    chosen = set()
    for shift in (0.0, 1e-16, -1e-16, 3e-16):
        inputs = rows([[1.1] * 3, [0.8] * 2], [[0.1 + shift] * 3, [0.1 - shift] * 2])
        chosen.add(tuple(kl_cov(inputs, fraction=0.4).loss.abs().gt(0.12).flatten().tolist()))
    assert len(chosen) == 1
