"""Which tokens of a batch are the first by some number, where some numbers are equal but for rounding.

Tokens after the same text have the same log-prob and entropy, as the first tokens of all rollouts of a prompt do. Their
last digits differ with the padding beside them, and so with the cut. They must not decide which token is chosen.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def residue(values: Float[Tensor, "*shape"]) -> float:
    """Return how far apart equal numbers of about 1 may be: 4e-11 in float64, 2e-5 in float32."""
    return math.pow(torch.finfo(values.dtype).eps, 2 / 3)


def greatest(
    values: Float[Tensor, "batch seq"], counted: Bool[Tensor, "batch seq"], number: int, *, tolerance: float
) -> Bool[Tensor, "batch seq"]:
    """Return a mask of the `number` largest counted values. Of those equal to the smallest of them, the first are taken."""
    number = min(number, int(counted.sum()))
    if not number:
        return torch.zeros_like(counted)
    flat = torch.where(counted, values, -torch.inf).flatten()
    smallest = flat.topk(number).values[-1]
    above, equal = flat > smallest + tolerance, (flat - smallest).abs() <= tolerance
    return (above | (equal & (equal.cumsum(0) <= number - above.sum()))).view_as(counted)


def lower_bound(values: Float[Tensor, "*shape"], counted: Bool[Tensor, "*shape"], share: float) -> Float[Tensor, ""]:
    """Return the lower bound of the top `share` of the counted values, interpolated as `torch.quantile` does."""
    ordered = values[counted].sort().values
    if not len(ordered):
        return values.new_zeros(())
    place = (1 - share) * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


def reaches(values: Float[Tensor, "*shape"], bound: Float[Tensor, ""]) -> Bool[Tensor, "*shape"]:
    """Return where a value is not below the bound, but for rounding."""
    return values >= bound - residue(values)
