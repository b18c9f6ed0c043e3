"""Cuts cost least, and padding stays small."""

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugrad.policy import partition
from plugrad.policy.partition import least_padding


def lengths_like_rollouts(num_sequences, seed):
    """Log-normal between 16 and 512, longest first."""
    draw, (low, high) = random.Random(seed), (math.log(16), math.log(512))
    drawn = (draw.lognormvariate((low + high) / 2, (high - low) / 4) for _ in range(100 * num_sequences))
    inside = [round(length) for length in drawn if 16 <= length <= 512]
    return sorted(inside[:num_sequences], reverse=True)


def padded(lengths, blocks):
    return sum((stop - start) * lengths[start] for start, stop in blocks)


def least_cost(lengths, budget):
    """Every block is tried."""
    best = [0, *[math.inf] * len(lengths)]
    for start, longest in enumerate(lengths):
        for stop in range(start + 1, min(len(lengths), start + budget // longest) + 1):
            best[stop] = min(best[stop], best[start] + (stop - start) * longest + partition.PASS_COST)
    return best[-1]


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), max_size=40), st.integers(60, 500), st.sampled_from([0, 1, 20, 48, 300]))
def test_no_partition_costs_less(lengths, budget, pass_cost):
    lengths.sort(reverse=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "PASS_COST", pass_cost)
        blocks = least_padding(lengths, budget)
        assert padded(lengths, blocks) + pass_cost * len(blocks) == least_cost(lengths, budget)
    assert [place for block in blocks for place in range(*block)] == list(range(len(lengths)))
    assert all((stop - start) * lengths[start] <= budget for start, stop in blocks)


@pytest.mark.parametrize("num_sequences", [32, 64, 256, 1024])
@pytest.mark.parametrize("budget", [2048, 4096, 16384])
def test_padding_adds_at_most_a_tenth(num_sequences, budget):
    for seed in range(20):
        lengths = lengths_like_rollouts(num_sequences, seed)
        assert padded(lengths, least_padding(lengths, budget)) <= 1.1 * sum(lengths)


def test_the_number_of_passes_is_not_far_from_the_least():
    for seed in range(20):
        lengths = lengths_like_rollouts(1024, seed)
        assert len(least_padding(lengths, 2048)) <= 1.3 * sum(lengths) / 2048


@pytest.mark.parametrize("lengths", [[11] * 20, [12, 11, 11, 10, 9], [40, 12], []])
def test_a_small_batch_is_not_cut(lengths):
    assert least_padding(lengths, 4096) == ([(0, len(lengths))] if lengths else [])


def test_a_length_that_stands_out_is_on_its_own():
    assert least_padding([500, 20, 20, 20], 4096) == [(0, 1), (1, 4)]


def test_equal_lengths_fill_the_budget():
    blocks = least_padding([16] * 1024, 2048)
    assert [stop - start for start, stop in blocks] == [128] * 8
    assert all(before[1] == after[0] for before, after in pairwise(blocks))
