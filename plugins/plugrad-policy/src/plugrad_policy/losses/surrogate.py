"""PPO's clipped surrogate (arXiv:1707.06347, eq. 7), shared by losses that only change the ratio."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean

ClipRange = Annotated[float, Field(ge=0)]
"""How far from 1 a ratio may go."""


def clipped_surrogate(ratio: Tensor, advantages: Tensor, *, low: float, high: float) -> Tensor:
    """Return -min(r A, clip(r, 1 - low, 1 + high) A)."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def is_clipped(ratio: Tensor, advantages: Tensor, *, low: float, high: float) -> Tensor:
    """Return where the clip removes the gradient: beyond the bound towards which A pushes."""
    ratio = ratio.detach()
    return ((advantages > 0) & (ratio > 1 + high)) | ((advantages < 0) & (ratio < 1 - low))


def clipped_outputs(inputs: BatchLossInputs, ratio: Tensor, *, low: float, high: float) -> LossOutputs:
    """Return the surrogate of ratios `[batch, seq]`, with the mean ratio and the clipped share of counted tokens."""
    counted = inputs.loss_mask
    # A ratio may belong to a whole row, so its gradient would also sum over masked slots.
    advantages = torch.where(counted, inputs.advantages, 0.0)
    clipped = is_clipped(ratio, advantages, low=low, high=high)
    metrics = {"clip_fraction": Mean.over(clipped, counted), "ratio": Mean.over(ratio, counted)}
    return LossOutputs(clipped_surrogate(ratio, advantages, low=low, high=high), metrics)
