"""A micro-batch for trials of losses, and cuts, padding and orders that must not matter."""

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
    """Return the inputs with the sampling, old, reference and teacher policies equal to the trained one."""
    own = inputs.trainer_logprobs
    return replace(inputs, inference_logprobs=own, old_logprobs=own, ref_logprobs=own, teacher_logprobs=own)


def with_row_advantages(inputs: BatchLossInputs, rows: Sequence[float]) -> BatchLossInputs:
    """Return the inputs with one advantage per row."""
    values = torch.tensor(rows, dtype=inputs.advantages.dtype).unsqueeze(1)
    return replace(inputs, advantages=values * inputs.loss_mask)


def with_garbage(inputs: BatchLossInputs, garbage: float) -> BatchLossInputs:
    """Return the inputs with other numbers, of both signs, in the masked slots."""
    signs = torch.ones_like(inputs.loss_mask, dtype=torch.double)
    signs[:, ::2] = -1

    def filled(_: str, value: Tensor) -> Tensor:
        if value.ndim != 2 or not value.is_floating_point():
            return value
        return torch.where(inputs.loss_mask, value, (garbage * signs).to(value.dtype))

    return map_tensors(inputs, filled)


def padded(inputs: BatchLossInputs, columns: int) -> BatchLossInputs:
    """Return the inputs with this many more columns of padding on the right."""
    return map_tensors(inputs, lambda _, value: pad(value, (0, columns)) if value.ndim == 2 else value)


def rows_of(inputs: BatchLossInputs, rows: Sequence[int]) -> BatchLossInputs:
    """Return some rows, in this order, as wide as the longest of them."""
    parts = [keep_rows(inputs, torch.arange(len(inputs.loss_mask)) == row) for row in rows]
    width = int(inputs.loss_mask[list(rows)].any(dim=0).nonzero().max()) + 1
    metadata = [part.metadata[0] for part in parts if part.metadata]
    together = map_tensors(parts[0], lambda name, _: torch.cat([getattr(part, name) for part in parts]))
    narrow = map_tensors(together, lambda _, value: value[:, :width] if value.ndim == 2 else value)
    return replace(narrow, metadata=metadata)
