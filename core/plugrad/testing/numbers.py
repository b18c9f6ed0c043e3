"""Numbers by name, and the comparison of two ways to compute them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, isnan

import torch
from torch import Tensor

from plugrad.contracts.measures import Measure
from plugrad.testing.checks import Broken

TOLERANCE = 1e-9

Numbers = Mapping[str, float]
"""By name, as in "the advantage of example 0, rollout 2"."""


def compare_numbers(found: Numbers, expected: Numbers, change: str, tolerance: float = TOLERANCE) -> str:
    """Compare two ways to compute the same numbers, and return the largest difference.

    Raises:
        Broken: they differ by more than rounding, or have different names. The message starts with `change`.
    """
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            raise Broken(f"{change}, there is {'no' if name in expected else 'also'} {name}")
        if not is_close(found[name], expected[name], tolerance):
            raise Broken(f"{change}, {name} changes {_from_to(expected[name], found[name])}")
    differences = [abs(value - expected[name]) for name, value in found.items() if not isnan(value)]
    largest = max(differences, default=0.0)
    return f"largest difference {largest:.0e}" if largest else "no difference"


def _from_to(before: float, after: float) -> str:
    one, other = f"{before:.6g}", f"{after:.6g}"
    return f"from {one} to {other}" if one != other else f"from {one} by {after - before:.1g}"


def are_same(found: Numbers, expected: Numbers, tolerance: float = TOLERANCE) -> bool:
    """Whether they are equal up to rounding."""
    return found.keys() == expected.keys() and all(is_close(found[name], expected[name], tolerance) for name in expected)


def is_close(found: float, expected: float, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers are equal up to rounding. NaN equals NaN: it is the mean of nothing."""
    # Not `>`: a NaN is close to no number. Infinity minus itself is NaN.
    return (
        found == expected
        or abs(found - expected) <= tolerance * max(1.0, abs(expected))
        or (isnan(found) and isnan(expected))
    )


def is_finite(values: Tensor) -> bool:
    """Whether all numbers of a tensor are finite."""
    return bool(torch.isfinite(values).all())


def is_finite_measure(measure: Measure) -> bool:
    """Whether the numbers of a measure are finite. The mean of nothing is: its total and count are 0."""
    return all(isfinite(float(number)) for number in vars(measure).values())
