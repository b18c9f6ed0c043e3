"""How a mixture of experts multiplies its matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

ANY_DTYPE = "eager"
"""Transformers' implementation that multiplies each expert's matrices by themselves. Its others refuse float64."""


def run_experts_in_float64(model: nn.Module) -> None:
    """Choose the implementation of experts that computes in float64, if the model's weights are float64."""
    given: Any = model
    if getattr(model, "dtype", None) is torch.float64 and getattr(given.config, "_experts_implementation", None):
        given.set_experts_implementation(ANY_DTYPE)
