"""Ratios between two policies, per token and averaged over a sequence."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to [-20, 20], as in verl. exp(20) = 4.9e8 and its products stay finite in every dtype."""


def log_ratio(policy: Float[Tensor, "batch seq"], other: Float[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """Return log pi - log other, clamped to `MAX_LOG_RATIO`. Clamped values have no gradient."""
    return (policy - other).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def sequence_sum(values: Float[Tensor, "batch seq"], counted: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch 1"]:
    """Return the sum over the counted tokens of each sequence."""
    return torch.where(counted, values, 0.0).sum(dim=1, keepdim=True)


def sequence_mean(values: Float[Tensor, "batch seq"], counted: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch 1"]:
    """Return the mean over the counted tokens of each sequence."""
    return sequence_sum(values, counted) / counted.sum(dim=1, keepdim=True).clamp(min=1)
