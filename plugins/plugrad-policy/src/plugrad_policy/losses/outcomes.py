"""Which sequences of a batch succeeded, for losses that take rewards as labels."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from plugrad import BatchLossInputs


def correct(inputs: BatchLossInputs, above: float) -> Bool[Tensor, "batch 1"]:
    """Return the sequences whose reward is greater than `above`."""
    assert inputs.reward is not None
    return (inputs.reward > above).unsqueeze(1)


def same_group(inputs: BatchLossInputs) -> Bool[Tensor, "batch batch"]:
    """Return for each sequence which ones are of its group. Where nobody tells, each is a group of its own."""
    if inputs.group_ids is None:
        return torch.eye(len(inputs.loss_mask), dtype=torch.bool, device=inputs.loss_mask.device)
    return inputs.group_ids.unsqueeze(0) == inputs.group_ids.unsqueeze(1)
