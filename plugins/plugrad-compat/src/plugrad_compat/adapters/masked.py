"""Statistics of what a mask counts, as verl computes them and SkyRL, which began with verl's, does too."""

from __future__ import annotations

import torch
from torch import Tensor

from plugrad import PluginError

EPS = 1e-8


def masked_sum(values: Tensor, mask: Tensor, axis: int | None = None) -> Tensor:
    """Return the sum of what `mask` counts; what it does not count may be NaN."""
    valid = torch.where(mask.bool(), values, 0.0)
    counted = valid * mask
    return counted.sum() if axis is None else counted.sum(dim=axis)


def masked_mean(values: Tensor, mask: Tensor, axis: int | None = None) -> Tensor:
    """Return the mean of what `mask` counts."""
    counted = mask.sum() if axis is None else mask.sum(dim=axis)
    return masked_sum(values, mask, axis) / (counted + EPS)


def masked_var(values: Tensor, mask: Tensor, unbiased: bool = True) -> Tensor:
    """Return the variance of what `mask` counts.

    Raises:
        PluginError: it counts fewer than two, and the variance is to be unbiased.
    """
    variance = masked_mean((values - masked_mean(values, mask)).square(), mask)
    if not unbiased:
        return variance
    counted = mask.sum()
    if counted < 2:
        raise PluginError(f"masked_var: the mask counts {int(counted)}, and an unbiased variance needs two at least.")
    return variance * counted / (counted - 1)


def masked_whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Return the values with mean 0 and variance 1 over what `mask` counts, or with their own mean."""
    mean, variance = masked_mean(values, mask), masked_var(values, mask)
    whitened = (values - mean) * torch.rsqrt(variance + EPS)
    return whitened if shift_mean else whitened + mean
