"""`solved`: the shares by hand. That they add up over ranks is in `test_promises.py`."""

from __future__ import annotations

import pytest

import plugrad
from plugrad import MetricInputs
from plugrad.testing import metric_inputs, rollouts
from plugrad_example.solved import solved


def batch(*groups: list[float]) -> MetricInputs:
    """Return groups with these rewards."""
    return metric_inputs(rollouts(groups))


def shares(inputs: MetricInputs, threshold: float = 1.0) -> tuple[float, float]:
    """Return `any` and `all`."""
    found = solved(inputs, threshold=threshold)
    return found["any"].value(), found["all"].value()


def test_the_shares_by_hand() -> None:
    assert shares(batch([0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0])) == (0.75, 0.5)


def test_a_threshold() -> None:
    inputs = batch([0.2, 0.7], [0.6, 0.9])
    assert shares(inputs) == (0.0, 0.0)
    assert shares(inputs, threshold=0.7) == (1.0, 0.0)
    assert shares(inputs, threshold=0.6) == (1.0, 0.5)


def test_in_a_group_of_one_any_is_all() -> None:
    assert shares(batch([1.0], [0.0])) == (0.5, 0.5)


@pytest.mark.parametrize("reference", ["solved", "plugrad-example/solved"])
def test_it_is_found_by_name(reference: str) -> None:
    found = plugrad.load("metric", reference, threshold=0.5)(batch([0.0, 0.5]))
    assert {name: measure.value() for name, measure in found.items()} == {"any": 1.0, "all": 0.0}


def test_a_misspelt_option_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match=r"'treshold'\. Did you mean 'threshold'"):
        plugrad.load("metric", "solved", treshold=0.5)
