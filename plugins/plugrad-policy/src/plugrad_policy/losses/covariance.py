"""The covariance of log-prob and advantage per token, which drives entropy down (arXiv:2505.22617)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad import BatchLossInputs


def covariances(inputs: BatchLossInputs) -> Float[Tensor, "batch seq"]:
    """Return (A - mean A) (log pi - mean log pi), detached, with means over the micro-batch's counted tokens."""
    counted = inputs.loss_mask
    num_tokens = counted.sum().clamp(min=1)

    def centred(values: Tensor) -> Tensor:
        return values - torch.where(counted, values, 0.0).sum() / num_tokens

    return centred(inputs.advantages) * centred(inputs.trainer_logprobs.detach())
