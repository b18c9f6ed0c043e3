"""What a model would give, made up from the log-probs, for trying losses without one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.formulas.ratios import at_least_float32

VOCABULARY = 64
HIDDEN = 8
LEAST = 1e-12


def with_made_up_outputs(
    inputs: BatchLossInputs, needs: Collection[str] | None = None, vocabulary: int = VOCABULARY
) -> BatchLossInputs:
    """Return the inputs with what models give and a loss needs: logits, hidden states, embedding, values, what a teacher
    gives beside log-probs; by default all.

    They are functions of `trainer_logprobs` or the entropy, so a loss that reads any has its gradient there. Masked slots
    hold the values of the log-probs. What a row has does not depend on other rows. Like a policy's, they are in float32 at
    least. The logits give each counted token its own log-prob.
    """
    made: dict[str, Any] = {}
    if needs is None or "logits" in needs:
        made["logits"] = _logits(inputs, vocabulary)
    if needs is None or "hidden_states" in needs:
        made["hidden_states"] = _states(inputs)
    if needs is None or "embedding" in needs:
        made["embedding"] = _embedding(inputs)
    if needs is None or "values" in needs:
        made["values"] = _values(inputs)
    if needs is None or "teacher_divergence" in needs:
        made["teacher_divergence"] = _divergence(inputs)
    if needs is None or "teacher_logits" in needs:
        made["teacher_logits"] = _logits(inputs, vocabulary).detach().roll(1, dims=2)
    return replace(inputs, **made) if made else inputs


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


def _states(inputs: BatchLossInputs) -> Float[Tensor, "batch seq hidden"]:
    own = at_least_float32(inputs.trainer_logprobs).unsqueeze(2)
    steps = torch.arange(1, HIDDEN + 1, dtype=own.dtype, device=own.device)
    return torch.where(inputs.loss_mask.unsqueeze(2), (own * steps).sin(), own.expand(-1, -1, HIDDEN))


def _embedding(inputs: BatchLossInputs) -> Float[Tensor, "batch hidden"]:
    counted = inputs.loss_mask.unsqueeze(2)
    return torch.where(counted, _states(inputs), 0.0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _divergence(inputs: BatchLossInputs) -> Float[Tensor, "batch seq"]:
    own = at_least_float32(inputs.trainer_logprobs)
    # Never negative, and with a gradient where the policy is far from the teacher too.
    return torch.where(inputs.loss_mask, torch.nn.functional.softplus(0.5 - own), own)


def _values(inputs: BatchLossInputs) -> Float[Tensor, "batch seq"]:
    # Of the entropy, if there is one: a critic knows nothing of how probable a token is.
    of = at_least_float32(inputs.trainer_logprobs if inputs.entropy is None else inputs.entropy)
    return torch.where(inputs.loss_mask, (0.3 * of).sin(), of)
