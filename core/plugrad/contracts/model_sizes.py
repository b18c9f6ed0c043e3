"""What a loss that trains parameters of its own is told of the policy."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of the policy, as the method `trained` of a loss receives them."""

    hidden_size: int
    """The length of `embedding`, and of an entry of `hidden_states`."""
    vocab_size: int
    """The number of `logits` per token."""
    dtype: torch.dtype
    """Of log-probs and hidden states as losses see them: float32, or float64 where the policy computes in it."""
