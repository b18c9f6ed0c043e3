"""The weights of the objective, on a batch that one can do by hand: two groups of two rollouts."""

from typing import get_args

import pytest

from plugrad.contracts.markers import Reduction
from plugrad.policy.reductions import DENOMINATORS, Counts, count_rows, row_weights

TOKENS = [4, 2, 2, 0]
ROLLOUTS = [(7, 0), (7, 1), (9, 0), (9, 1)]
COUNTS = Counts(tokens=8, sequences=4, groups=2, max_new_tokens=10)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("token", [1 / 8, 1 / 8, 1 / 8, 0]),
        ("sequence", [1 / 16, 1 / 8, 1 / 8, 0]),
        ("sequence_sum", [1 / 4, 1 / 4, 1 / 4, 0]),
        ("constant", [1 / 40, 1 / 40, 1 / 40, 0]),
        ("group", [1 / 12, 1 / 12, 1 / 4, 0]),
    ],
)
def test_weights(reduction, expected):
    assert row_weights(reduction, count_rows(TOKENS, ROLLOUTS), COUNTS).tolist() == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("reduction", ["token", "sequence", "group"])
def test_weights_of_the_tokens_add_up_to_the_share_of_what_counts(reduction):
    weights = row_weights(reduction, count_rows(TOKENS, ROLLOUTS), COUNTS)
    # One of four sequences has no counted token: `sequence` gives its share to nobody.
    expected = {"token": 1.0, "sequence": 0.75, "group": 1.0}[reduction]
    assert sum(w * n for w, n in zip(weights.tolist(), TOKENS, strict=True)) == pytest.approx(expected)


@pytest.mark.parametrize("reduction", get_args(Reduction))
def test_rows_of_one_rollout_weigh_as_one_row(reduction):
    whole = row_weights(reduction, count_rows([4, 2, 2], [(7, 0), (7, 1), (9, 0)]), COUNTS)
    rows = row_weights(reduction, count_rows([1, 2, 3, 0, 2], [(7, 0), (7, 1), (7, 0), (9, 0), (9, 0)]), COUNTS)
    assert rows.tolist() == whole[[0, 1, 0, 2, 2]].tolist()


@pytest.mark.parametrize("reduction", get_args(Reduction))
def test_a_batch_in_which_nothing_counts_has_weights_of_zero(reduction):
    weights = row_weights(reduction, count_rows([0, 0], [(0, 0), (0, 1)]), Counts(0, 2, 1, 10))
    assert weights.tolist() == [0, 0]


def test_every_reduction_has_a_denominator():
    assert tuple(DENOMINATORS) == get_args(Reduction)
