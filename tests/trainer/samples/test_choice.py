"""Which rollouts become samples."""

import random

import pytest
import torch

from plugrad.trainer.samples.choice import chosen


@pytest.mark.parametrize(
    ("num", "places"),
    [
        (1, [(1, 1)]),
        (2, [(0, 1), (1, 0)]),
        (3, [(0, 1), (1, 0), (1, 1)]),
        (6, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
        (9, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
    ],
)
def test_they_are_spaced_by_reward_and_come_in_the_order_of_the_batch(num, places):
    # By reward: (0, 1), (0, 0), (0, 2), (1, 1), (1, 2), (1, 0).
    rewards = [[0.1, -1.0, 0.2], [9.0, 0.3, 0.4]]
    found = chosen(rewards, num)
    if num == 3:
        assert {(0, 1), (1, 0)} < set(found)
        assert len(found) == 3
    else:
        assert found == places


def test_a_reward_that_one_in_many_gets_is_among_them():
    rewards = [[0.0] * 8 for _ in range(8)]
    rewards[3][5] = 1.0
    found = chosen(rewards, 4)
    assert len(found) == len(set(found)) == 4
    assert (3, 5) in found


def test_without_rollouts_there_are_none():
    assert chosen([], 8) == chosen([[], []], 1) == []


def test_no_random_state_changes():
    before = random.getstate(), torch.get_rng_state()
    chosen([[0.5] * 100], 8)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
