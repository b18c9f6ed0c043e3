"""Ratios between two policies, for the losses of this package: per token, and meaned over a sequence."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are cut to [-20, 20], as in verl: exp(20) = 4.9e8 is finite in every dtype, and so is what multiplies it."""


def log_ratio(policy: Float[Tensor, "batch seq"], other: Float[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """log pi - log other, within the bounds of `MAX_LOG_RATIO`; beyond them it has no gradient."""
    return (policy - other).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sequence_sum(values: Float[Tensor, "batch seq"], counted: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch 1"]:
    """The sum over the counted tokens of each sequence."""
    return torch.where(counted, values, 0.0).sum(dim=1, keepdim=True)


def sequence_mean(values: Float[Tensor, "batch seq"], counted: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch 1"]:
    """The mean over the counted tokens of each sequence."""
    return sequence_sum(values, counted) / counted.sum(dim=1, keepdim=True).clamp(min=1)
