"""Masked statistics as verl computes them. SkyRL, which started from verl, computes them the same way."""

from __future__ import annotations

import torch
from torch import Tensor

from plugrad import PluginError

EPS = 1e-8


def masked_sum(values: Tensor, mask: Tensor, axis: int | None = None) -> Tensor:
    """Return the sum over the mask. Values outside it may be NaN."""
    valid = torch.where(mask.bool(), values, 0.0)
    counted = valid * mask
    return counted.sum() if axis is None else counted.sum(dim=axis)


def masked_mean(values: Tensor, mask: Tensor, axis: int | None = None) -> Tensor:
    """Return the mean over the mask."""
    counted = mask.sum() if axis is None else mask.sum(dim=axis)
    return masked_sum(values, mask, axis) / (counted + EPS)


def masked_var(values: Tensor, mask: Tensor, unbiased: bool = True) -> Tensor:
    """Return the variance over the mask.

    Raises:
        PluginError: the mask counts fewer than two values and `unbiased` is set.
    """
    variance = masked_mean((values - masked_mean(values, mask)).square(), mask)
    if not unbiased:
        return variance
    counted = mask.sum()
    if counted < 2:
        raise PluginError(f"masked_var: the mask counts {int(counted)}, but an unbiased variance needs at least two.")
    return variance * counted / (counted - 1)


def masked_whiten(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
    """Return the values scaled to variance 1 over the mask, with mean 0 or with their own mean."""
    mean, variance = masked_mean(values, mask), masked_var(values, mask)
    whitened = (values - mean) * torch.rsqrt(variance + EPS)
    return whitened if shift_mean else whitened + mean
