"""The precision that foreign losses are written for, shared by the adapters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from plugrad import BatchLossInputs, LossInputs, at_least_float32

Inputs = TypeVar("Inputs", LossInputs, BatchLossInputs)


def widened(inputs: Inputs) -> Inputs:
    """Return the inputs in float32 at least, as other systems pass log-probs: exp(20), their limit, overflows float16."""
    wide: dict[str, Any] = {
        name: at_least_float32(value)
        for name, value in vars(inputs).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    return replace(inputs, **wide)
