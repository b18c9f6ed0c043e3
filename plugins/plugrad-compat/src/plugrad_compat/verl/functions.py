"""The functions that verl's losses and estimators are written with."""

from __future__ import annotations

import torch
from torch import Tensor

from plugrad import PluginError

EPS = 1e-8
MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-sum-norm", "seq-mean-token-mean")


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


def agg_loss(
    loss_mat: Tensor,
    loss_mask: Tensor,
    loss_agg_mode: str,
    dp_size: int = 1,
    batch_num_tokens: int | None = None,
    global_batch_size: int | None = None,
    loss_scale_factor: int | None = None,
) -> Tensor:
    """Aggregate `[batch, response_length]` as verl does.

    With `**config.global_batch_info` as a loss is given it here, every denominator is 1 and a mode that sums is a plain sum:
    the run file's `reduction` divides. Without it this is verl's mean over what is here.

    Raises:
        PluginError: verl has no such mode.
    """
    if loss_agg_mode not in MODES:
        raise PluginError(f"loss_agg_mode = {loss_agg_mode!r}: verl has {', '.join(MODES)}.")
    if loss_agg_mode.startswith("token"):
        tokens = 1 if loss_agg_mode == "token-sum" else batch_num_tokens or loss_mask.sum()
        return masked_sum(loss_mat, loss_mask) / tokens * dp_size
    lengths = loss_mask.sum(dim=-1)
    rows = (loss_mat * loss_mask).sum(dim=-1)
    rows = rows / (lengths + EPS) if loss_agg_mode == "seq-mean-token-mean" else rows
    sequences = (lengths > 0).to(rows)
    total = masked_sum(rows, sequences) / (global_batch_size or sequences.sum()) * dp_size
    return total / (loss_scale_factor or loss_mask.shape[-1]) if loss_agg_mode == "seq-mean-token-sum-norm" else total
