"""`group_quantile`: the formula and its option. What holds of every advantage is in `test_promises.py`."""

from __future__ import annotations

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs
from plugrad_example.group_quantile import group_quantile


def rewards(*groups: list[float]) -> AdvantageInputs:
    """Return groups with these rewards, each completion two tokens long."""
    values = torch.tensor(groups)
    return AdvantageInputs(rewards=values, completion_lengths=torch.full(values.shape, 2))


def test_the_median_by_hand() -> None:
    # The median of 0, 1, 3, 10 is 2; that of 5, 5, 5, 9 is 5.
    outputs = group_quantile(rewards([0.0, 10.0, 1.0, 3.0], [5.0, 9.0, 5.0, 5.0]))
    assert outputs.advantages.tolist() == [[-2.0, 8.0, -1.0, 1.0], [0.0, 4.0, 0.0, 0.0]]


def test_of_right_and_wrong_the_minority_learns() -> None:
    outputs = group_quantile(rewards([0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]))
    assert outputs.advantages.tolist() == [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, -1.0, 0.0], [0.5, -0.5, 0.5, -0.5]]


def test_another_quantile() -> None:
    assert group_quantile(rewards([0.0, 4.0, 2.0]), quantile=0.0).advantages.tolist() == [[0.0, 4.0, 2.0]]
    assert group_quantile(rewards([0.0, 4.0, 2.0]), quantile=0.75).advantages.tolist() == [[-3.0, 1.0, -1.0]]


@pytest.mark.parametrize("group", [[3.0], [2.0, 2.0, 2.0]])
def test_a_group_of_one_or_of_equal_rewards_has_no_advantage(group: list[float]) -> None:
    assert group_quantile(rewards(group)).advantages.tolist() == [[0.0] * len(group)]


@pytest.mark.parametrize("reference", ["group_quantile", "plugrad-example/group_quantile"])
def test_it_is_found_by_name(reference: str) -> None:
    outputs = plugrad.load("advantage", reference, quantile=1.0)(rewards([0.0, 4.0]))
    assert outputs.advantages.tolist() == [[-4.0, 0.0]]


def test_a_misspelt_option_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match=r"'quantil'\. Did you mean 'quantile'"):
        plugrad.load("advantage", "group_quantile", quantil=0.5)
    with pytest.raises(plugrad.OptionError, match="which is not float"):
        plugrad.load("advantage", "group_quantile", quantile="0.5")


def test_a_quantile_that_makes_no_sense_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"range \[0, 1\]"):
        group_quantile(rewards([0.0, 1.0]), quantile=1.5)
