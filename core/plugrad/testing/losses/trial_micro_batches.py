"""Micro-batches to try losses on, and the ways in which they are cut, padded and turned that must not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.loss import keep_rows
from plugrad.host.synthetic import DRIFT, in_dtype, loss_inputs, map_tensors

LENGTHS = (7, 3, 12, 5, 1, 9, 4)
GROUPS = (0, 0, 0, 1, 1, 2, 2)


def draw_micro_batch(
    seed: int = 0, *, drift: float = DRIFT, dtype: torch.dtype = torch.double, advantage: float | None = None
) -> BatchLossInputs:
    """Draw seven sequences of unequal length; the random state of the process stays as it is.

    Args:
        seed: of every number.
        drift: the largest distance, in nats, of the sampling policies' log-probs from the trained policy's.
        dtype: of the floating-point tensors.
        advantage: of every token. By default each token has its own, between -1 and 1.
    """
    inputs = loss_inputs(LENGTHS, seed=seed, drift=drift, group_ids=torch.tensor(GROUPS))
    if advantage is not None:
        inputs = replace(inputs, advantages=advantage * inputs.loss_mask.double())
    # Drawn in float64, so that each dtype gets the same numbers, rounded.
    return in_dtype(inputs, dtype)


def on_policy(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the same where the policy is still the one that sampled, the reference and the teacher."""
    own = inputs.trainer_logprobs
    return replace(inputs, inference_logprobs=own, old_logprobs=own, ref_logprobs=own, teacher_logprobs=own)


def with_row_advantages(inputs: BatchLossInputs, rows: Sequence[float]) -> BatchLossInputs:
    """Return the same where all tokens of a row have its advantage."""
    values = torch.tensor(rows, dtype=inputs.advantages.dtype).unsqueeze(1)
    return replace(inputs, advantages=values * inputs.loss_mask)


def with_garbage(inputs: BatchLossInputs, garbage: float) -> BatchLossInputs:
    """Return the same with other numbers, of both signs, in the slots that are masked."""
    signs = torch.ones_like(inputs.loss_mask, dtype=torch.double)
    signs[:, ::2] = -1

    def filled(_: str, value: Tensor) -> Tensor:
        if value.ndim != 2 or not value.is_floating_point():
            return value
        return torch.where(inputs.loss_mask, value, (garbage * signs).to(value.dtype))

    return map_tensors(inputs, filled)


def padded(inputs: BatchLossInputs, columns: int) -> BatchLossInputs:
    """Return the same with so many more columns of padding at the right."""
    return map_tensors(inputs, lambda _, value: pad(value, (0, columns)) if value.ndim == 2 else value)


def rows_of(inputs: BatchLossInputs, rows: Sequence[int]) -> BatchLossInputs:
    """Return some rows in this order, as wide as the longest of them."""
    parts = [keep_rows(inputs, torch.arange(len(inputs.loss_mask)) == row) for row in rows]
    width = int(inputs.loss_mask[list(rows)].any(dim=0).nonzero().max()) + 1
    metadata = [part.metadata[0] for part in parts if part.metadata]
    together = map_tensors(parts[0], lambda name, _: torch.cat([getattr(part, name) for part in parts]))
    narrow = map_tensors(together, lambda _, value: value[:, :width] if value.ndim == 2 else value)
    return replace(narrow, metadata=metadata)
