"""`gdpo`: the numbers by hand, weights, and what it cannot work with."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, Rollout
from plugrad_policy.advantages.gdpo import gdpo

Build = Callable[..., Rollout]


def scored(build: Build, *groups: list[dict[str, float]]) -> AdvantageInputs:
    """Return groups whose scores have these components."""
    return AdvantageInputs(rollouts=[[build(sum(score.values()), 2, score) for score in group] for group in groups])


def test_by_hand(rollout: Build) -> None:
    # Right: 1, 0, 0.5 normalises to 1, -1, 0; short: 0, 200, 100 to -1, 1, 0 whatever its size. Twice the first plus the
    # second: 1, -1, 0, whose deviation is 1.
    scores = [{"right": 1.0, "short": 0.0}, {"right": 0.0, "short": 200.0}, {"right": 0.5, "short": 100.0}]
    found = gdpo(scored(rollout, scores), weights={"right": 2.0}, eps=1e-12).advantages
    torch.testing.assert_close(found.tolist(), [[1.0, -1.0, 0.0]])


def test_combinations_that_grpo_takes_for_one_stay_apart(rollout: Build) -> None:
    # The paper's example: 0 and 1 right in one group, 0 and 2 in the other. GRPO gives both the same.
    one = [{"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 1.0}]
    two = [{"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}]
    found = gdpo(scored(rollout, one, two), eps=1e-12).advantages
    torch.testing.assert_close((found[1] / found[0]).tolist(), [2.0, 2.0])


def test_a_component_that_is_equal_in_a_group_adds_nothing(rollout: Build) -> None:
    scores = [{"right": 1.0, "format": 0.1}, {"right": 0.0, "format": 0.1}]
    found = gdpo(scored(rollout, scores), eps=1e-12).advantages
    torch.testing.assert_close(found.tolist(), [[1 / math.sqrt(2), -1 / math.sqrt(2)]])


def test_an_unknown_weight_is_an_error(rollout: Build) -> None:
    scores = [{"right": 1.0}, {"right": 0.0}]
    with pytest.raises(plugrad.OptionError, match="no component is called 'rihgt'; there are right"):
        gdpo(scored(rollout, scores), weights={"rihgt": 2.0})


@pytest.mark.parametrize("scores", [[{}, {}], [{"right": 1.0}, {}], [{"right": 1.0}, {"wrong": 1.0}]])
def test_without_the_same_components_everywhere_it_is_an_error(scores: list[dict[str, float]], rollout: Build) -> None:
    with pytest.raises(plugrad.ContractError, match="return a mapping"):
        gdpo(scored(rollout, scores))
    with pytest.raises(plugrad.ContractError, match="return a mapping"):
        gdpo(AdvantageInputs(rewards=torch.rand(1, 2), completion_lengths=torch.ones(1, 2, dtype=torch.long)))
