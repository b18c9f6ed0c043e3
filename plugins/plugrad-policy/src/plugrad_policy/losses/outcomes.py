"""Which sequences of a batch succeeded, for losses that take rewards as labels."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from plugrad import BatchLossInputs


def correct(inputs: BatchLossInputs, above: float) -> Bool[Tensor, "batch 1"]:
    """Return the sequences whose reward is greater than `above`."""
    assert inputs.reward is not None
    return (inputs.reward > above).unsqueeze(1)
