"""Find out whether a row's results depend on the rows beside it, and which parameters text reaches."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from plugrad.policy.lm_head import evaluating, runnable_attention
from plugrad.policy.trial_results import agree, dtype_of, trial_ids

logger = logging.getLogger("plugrad")

SHORT, LONG = 4, 24
"""Lengths of the trial's rows."""


def keeps_rows_apart(model: nn.Module) -> bool:
    """Whether a row gives the same logits alone as padded beside a longer row. Warn where it does not.

    Experts with a limited capacity, statistics over a batch, positions that ignore the mask: each makes the results depend
    on how a batch is cut.
    """
    with torch.no_grad(), evaluating(model), runnable_attention(model):
        short, long = trial_ids(model, SHORT), trial_ids(model, LONG, first=SHORT)
        padded = torch.cat([short, long.new_zeros(LONG - SHORT)])
        lengths = torch.tensor([SHORT, LONG], device=short.device).unsqueeze(1)
        mask = torch.arange(LONG, device=short.device) < lengths
        try:
            beside = _logits(model, torch.stack([padded, long]), mask)[0, :SHORT]
            alone = _logits(model, short.unsqueeze(0), mask[:1, :SHORT])[0]
        except Exception:
            # A context shorter than the trial: whatever the model raises then.
            return True
    apart = agree(beside, alone, dtype_of(model))
    if not apart:
        logger.warning(
            "%s computes other results for a row beside a longer row than for the same row alone. Every sequence gets a "
            "forward pass of its own, so that tokens_per_micro_batch changes no result; this takes longer.",
            type(model).__name__,
        )
    return apart


def without_gradient(model: nn.Module) -> list[str]:
    """Return the names of the trainable parameters that logits of a few tokens do not depend on.

    They belong to another modality or to experts that these tokens do not choose, or need longer sequences.
    """
    with torch.enable_grad(), runnable_attention(model):
        ids = trial_ids(model, LONG).unsqueeze(0)
        logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
        reached = _leaves(logits)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad and id(parameter) not in reached]


def _logits(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
    return logits


def _leaves(output: Tensor) -> set[int]:
    """Return the ids of the leaves of a result's graph, which no backward pass is needed for."""
    found, seen, ahead = set(), set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        ahead.extend(following for following, _ in node.next_functions)
    return found
