"""Thinned curves: no spike is lost, and what is smoothed is the mean."""

import random

import pytest

from plugrad.report.reported_run import Curve
from plugrad.report.thinning import thinned


def test_a_short_curve_stays_as_it_is():
    assert thinned(Curve([0, 5, 10], [1, None, 0.123456789])) == {"gap": 5, "x": [0, 5, 10], "y": [1, None, 0.123457]}


def test_the_extremes_of_each_bucket_stay_in_their_order_and_so_do_both_ends():
    values = [0, 9, 1, 1, 5, -5, 5, 6]
    found = thinned(Curve(list(range(8)), values), most_buckets=2)
    assert (found["x"], found["y"]) == ([0, 1, 5, 7], [0, 9, -5, 6])
    assert (found["mx"], found["my"]) == ([1.5, 5.5], [11 / 4, 11 / 4])


def test_a_bucket_without_a_number_leaves_a_gap():
    found = thinned(Curve(list(range(6)), [1, 2, None, None, 3, 4]), most_buckets=3 - 1)
    assert None not in found["my"]
    found = thinned(Curve(list(range(9)), [1, 2, 3, None, None, None, 4, 5, 6]), most_buckets=3)
    assert found["my"] == [2, None, 5]
    assert None in found["y"]


@pytest.mark.parametrize("length", [601, 5000])
def test_a_long_curve_has_few_points_and_keeps_its_range_and_its_mean(length):
    draw = random.Random(0)
    values = [draw.gauss(0, 1) for _ in range(length)]
    found = thinned(Curve(list(range(1, length + 1)), values))
    assert len(found["x"]) <= 602
    assert found["x"] == sorted(set(found["x"]))
    assert (min(found["y"]), max(found["y"])) == pytest.approx((min(values), max(values)), abs=1e-5)
    assert found["my"][0] == pytest.approx(sum(values[: length // 300]) / (length // 300), abs=1e-5)
    assert thinned(Curve(list(range(1, length + 1)), values)) == found
