"""Whitening over the whole batch, which advantages of several papers end with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from plugrad import AdvantageInputs

Over = Literal["tokens", "rollouts"]


def whitened(values: Tensor, inputs: AdvantageInputs, over: Over, eps: float) -> Tensor:
    """(x - mean x) / sqrt(var x + eps), where each rollout's x weighs as many as it has tokens, or one.

    The divisor of the variance is the number of tokens or rollouts. Where nothing has a token, nothing is subtracted.
    """
    ones = torch.ones_like(values)
    weights = inputs.completion_lengths.to(values) if over == "tokens" else ones
    weights = weights / weights.sum().clamp(min=1)
    centred = values - (weights * values).sum()
    variance = (weights * centred.square()).sum()
    return centred / (variance + eps).sqrt()
