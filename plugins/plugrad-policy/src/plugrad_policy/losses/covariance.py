"""The covariance of log-prob and advantage per token, which drives entropy down (arXiv:2505.22617)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad import BatchLossInputs, at_least_float32
from plugrad_policy.losses.ties import residue


def covariances(inputs: BatchLossInputs) -> Float[Tensor, "batch seq"]:
    """Return (A - mean A) (log pi - mean log pi), detached, with means over the batch's counted tokens."""
    counted = inputs.loss_mask
    num_tokens = counted.sum().clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        wide = at_least_float32(values)
        return wide - torch.where(counted, wide, 0.0).sum() / num_tokens

    return centred(inputs.advantages) * centred(inputs.trainer_logprobs.detach())


def rounding(inputs: BatchLossInputs) -> float:
    """Return how far apart the covariances of two tokens with the same log-prob and advantage may be."""
    advantages = at_least_float32(torch.where(inputs.loss_mask, inputs.advantages, 0.0))
    return residue(advantages) * float(advantages.abs().max())
