"""`rae`: the running baseline by hand, one for each agent, over batches and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, Rollout
from plugrad_policy.advantages.rae import Rae

Rewards = Callable[..., AdvantageInputs]
Build = Callable[..., Rollout]


def test_by_hand(rewards: Rewards) -> None:
    # The baseline is 0, 1, 0.5, 2.25 before each reward.
    found = Rae(decay=0.5)(rewards([2.0, 0.0], [4.0, 2.25])).advantages
    assert found.tolist() == [[2.0, -1.0], [3.5, 0.0]]


def test_each_agent_has_its_own(rollout: Build) -> None:
    groups = [[rollout(4.0, agent="x"), rollout(0.0, agent="x")], [rollout(-4.0, agent="o"), rollout(0.0, agent="o")]]
    assert Rae(decay=0.5)(AdvantageInputs(rollouts=groups)).advantages.tolist() == [[4.0, -2.0], [-4.0, 2.0]]


def test_another_column_names_the_agent(rollout: Build) -> None:
    groups = [[rollout(4.0, role=1)], [rollout(4.0, role=2)], [rollout(0.0, role=1)]]
    assert Rae(decay=0.5, column="role")(AdvantageInputs(rollouts=groups)).advantages.tolist() == [[4.0], [4.0], [-2.0]]
    assert Rae(decay=0.5)(AdvantageInputs(rollouts=groups)).advantages.tolist() == [[4.0], [2.0], [-3.0]]


def test_the_baseline_goes_on_from_batch_to_batch_and_over_a_checkpoint(rewards: Rewards) -> None:
    torch.manual_seed(0)
    first, second = (rewards(torch.rand(3).tolist()) for _ in range(2))
    through = Rae()
    through(first)
    state = through.state_dict()
    resumed = Rae()
    resumed.load_state_dict(state)
    expected = through(second).advantages
    torch.testing.assert_close(resumed(second).advantages, expected, rtol=0, atol=0)
    assert not torch.equal(Rae()(second).advantages, expected)
    # What was saved is no view of what goes on.
    assert state != through.state_dict()


def test_a_constant_reward_is_no_advantage_in_the_end(rewards: Rewards) -> None:
    advantage = Rae(decay=0.5)
    for _ in range(20):
        found = advantage(rewards([3.0, 3.0])).advantages
    torch.testing.assert_close(found.tolist(), [[0.0, 0.0]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_makes_no_sense_is_an_error(decay: float) -> None:
    with pytest.raises(plugrad.OptionError, match="'decay'"):
        plugrad.load("advantage", "plugrad_policy.advantages.rae:Rae", decay=decay)
