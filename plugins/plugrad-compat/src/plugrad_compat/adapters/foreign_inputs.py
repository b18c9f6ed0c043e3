"""The inputs that foreign losses are written for, shared by the adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from plugrad import BatchLossInputs, LossInputs, at_least_float32

OF_SEQUENCES = ("reward", "embedding")
"""The fields without an entry per token."""

Inputs = TypeVar("Inputs", LossInputs, BatchLossInputs)


def prepared(inputs: Inputs) -> Inputs:
    """Return the inputs in float32 at least, with 0 in every masked slot, as other systems pass them.

    exp(20), their limit, overflows float16; and a foreign loss multiplies by the mask, which leaves a NaN one.
    """
    changed: dict[str, Any] = {
        name: wide if name in OF_SEQUENCES else _filled(wide, inputs.loss_mask)
        for name, value in vars(inputs).items()
        if isinstance(value, Tensor) and value.is_floating_point()
        for wide in [at_least_float32(value)]
    }
    return replace(inputs, **changed)


def _filled(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values with 0 where nothing counts, through which no gradient flows."""
    return torch.where(mask if values.ndim == mask.ndim else mask.unsqueeze(-1), values, 0.0)
