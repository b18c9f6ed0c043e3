"""Ratios between two policies, per token and averaged over a sequence."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def sequence_sum(values: Float[Tensor, "batch seq"], counted: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch 1"]:
    """Return the sum over the counted tokens of each sequence."""
    return torch.where(counted, values, 0.0).sum(dim=1, keepdim=True)


def sequence_mean(values: Float[Tensor, "batch seq"], counted: Bool[Tensor, "batch seq"]) -> Float[Tensor, "batch 1"]:
    """Return the mean over the counted tokens of each sequence."""
    return sequence_sum(values, counted) / counted.sum(dim=1, keepdim=True).clamp(min=1)
