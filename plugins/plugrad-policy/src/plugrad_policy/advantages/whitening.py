"""Whitening over the whole batch, the last step of several papers' advantages."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from plugrad import AdvantageInputs, equal_rewards

Over = Literal["tokens", "rollouts"]


def whitened(values: Tensor, inputs: AdvantageInputs, over: Over, eps: float) -> Tensor:
    """Return (x - mean x) / sqrt(var x + eps), weighting each rollout's x by its tokens or by one.

    Values that are all equal give 0. The variance is divided by the number of tokens or rollouts. If no rollout has a
    token, nothing is subtracted.
    """
    ones = torch.ones_like(values)
    weights = inputs.completion_lengths.to(values) if over == "tokens" else ones
    weights = weights / weights.sum().clamp(min=1)
    centred = values - (weights * values).sum()
    variance = (weights * centred.square()).sum()
    return torch.where(equal_rewards(values.reshape(1, -1)), 0.0, centred / (variance + eps).sqrt())
