"""What a teacher reads of a micro-batch: its rows, or their completions after other prompts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.scored import Rows


def teacher_rows(micro_batch: MicroBatch, chosen: Sequence[int]) -> Rows:
    """Return the chosen rows, in their order, as their teacher reads them. They have the same counted tokens."""
    if not micro_batch.teacher_prompts and len(chosen) == len(micro_batch.loss_mask):
        return Rows(micro_batch.input_ids, micro_batch.attention_mask, micro_batch.loss_mask)
    rows = [_row(micro_batch, row) for row in chosen]
    width = max(len(ids) for ids, _ in rows)
    device = micro_batch.input_ids.device
    return Rows(
        # Whatever stands where nothing is attended to.
        torch.tensor([[*ids, *[0] * (width - len(ids))] for ids, _ in rows], device=device),
        torch.tensor([[True] * len(ids) + [False] * (width - len(ids)) for ids, _ in rows], device=device),
        torch.tensor([[*counted, *[False] * (width - len(counted))] for _, counted in rows], device=device),
    )


def _row(micro_batch: MicroBatch, row: int) -> tuple[list[int], list[bool]]:
    length = int(micro_batch.attention_mask[row].sum())
    ids: list[int] = micro_batch.input_ids[row, :length].tolist()
    counted: list[bool] = micro_batch.loss_mask[row, :length].tolist()
    prompt = micro_batch.teacher_prompts[row] if micro_batch.teacher_prompts else None
    if prompt is None or not any(counted):
        return ids, counted
    first = counted.index(True)
    return [*prompt, *ids[first:]], [*[False] * len(prompt), *counted[first:]]


def scored_tokens(counted: Bool[Tensor, "batch seq"]) -> Bool[Tensor, "batch seq"]:
    """Return True at the tokens that a pass scores: the first of a row has no context."""
    places = counted.clone()
    places[:, 0] = False
    return places
