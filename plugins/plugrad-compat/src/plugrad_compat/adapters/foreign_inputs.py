"""The inputs that foreign losses are written for, shared by the adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from plugrad import BatchLossInputs, LossInputs, at_least_float32

Inputs = TypeVar("Inputs", LossInputs, BatchLossInputs)


def prepared(inputs: Inputs) -> Inputs:
    """Return the inputs in float32 at least, with 0 in every masked slot, as other systems pass them.

    exp(20), their limit, overflows float16; and a foreign loss multiplies by the mask, which leaves a NaN one.
    """
    changed: dict[str, Any] = {
        name: _filled(at_least_float32(value), inputs.loss_mask)
        for name, value in vars(inputs).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    return replace(inputs, **changed)


def _filled(values: Tensor, mask: Tensor) -> Tensor:
    """Return the values with 0 where nothing counts, through which no gradient flows."""
    if values.ndim < mask.ndim:
        return values
    return torch.where(mask if values.ndim == mask.ndim else mask.unsqueeze(-1), values, 0.0)
