"""Synthetic logits for trying losses that need them without a model. They are derived from the log-probs."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs

VOCABULARY = 64
LEAST = 1e-12


def with_made_up_logits(inputs: BatchLossInputs, vocabulary: int = VOCABULARY) -> BatchLossInputs:
    """Return the inputs with logits over a vocabulary that give each counted token its own log-prob.

    The logits are a function of `trainer_logprobs`, so a loss that reads either has its gradient there. Masked slots hold
    the values of the log-probs. The logits of a row do not depend on other rows. Like a policy's, they are in float32 at
    least.
    """
    return replace(inputs, logits=_logits(inputs, vocabulary))


def _logits(inputs: BatchLossInputs, vocabulary: int) -> Float[Tensor, "batch seq vocab"]:
    assert inputs.input_ids is not None
    counted = inputs.loss_mask.unsqueeze(2)
    own = torch.where(counted, inputs.trainer_logprobs.unsqueeze(2).double(), -1.0)
    ids = inputs.input_ids.unsqueeze(2)
    others = (
        torch.arange(vocabulary, dtype=torch.double, device=own.device).sin().expand(*inputs.input_ids.shape, vocabulary)
    )
    # log p = x - log(e^x + sum of the others), solved for x.
    rest = others.scatter(2, ids, -torch.inf).logsumexp(dim=2, keepdim=True)
    target = own - (-own.expm1()).clamp(min=LEAST).log() + rest
    dtype = torch.promote_types(inputs.trainer_logprobs.dtype, torch.float32)
    logits = others.scatter(2, ids, target).to(dtype)
    return torch.where(counted, logits, inputs.trainer_logprobs.unsqueeze(2).to(dtype))
