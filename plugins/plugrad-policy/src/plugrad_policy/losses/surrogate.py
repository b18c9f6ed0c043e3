"""PPO's clipped surrogate (arXiv:1707.06347, eq. 7), which many losses of this package keep and vary the ratio of."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

ClipRange = Annotated[float, Field(ge=0)]
"""How far from 1 a ratio counts."""


def clipped_surrogate(ratio: Tensor, advantages: Tensor, *, low: float, high: float) -> Tensor:
    """-min(r A, clip(r, 1 - low, 1 + high) A)."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def is_clipped(ratio: Tensor, advantages: Tensor, *, low: float, high: float) -> Tensor:
    """Where the clip decides, so that there is no gradient: beyond the bound towards which A pushes."""
    ratio = ratio.detach()
    return ((advantages > 0) & (ratio > 1 + high)) | ((advantages < 0) & (ratio < 1 - low))
