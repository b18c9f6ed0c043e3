"""A micro-batch for trials of losses, and cuts, padding and orders that must not matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.loss import keep_rows
from plugrad.host.synthetic import DRIFT, in_dtype, loss_inputs, map_tensors
from plugrad.testing.trial_examples import trial_example

LENGTHS = (7, 3, 12, 5, 1, 9, 4)
GROUPS = (0, 0, 0, 1, 1, 2, 2)
OTHERS = ("inference_logprobs", "old_logprobs", "ref_logprobs", "teacher_logprobs")
FIELDS = tuple(field.name for field in fields(BatchLossInputs))


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
    examples = [trial_example(example_id=group) for group in GROUPS]
    inputs = loss_inputs(LENGTHS, seed=seed, drift=drift, group_ids=torch.tensor(GROUPS), metadata=examples)
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
    """Return the inputs with other numbers in the masked slots, different in every field.

    Log-probs there are negative and entropies positive, as everywhere. Differences of two fields have both signs.
    """
    places = torch.arange(inputs.loss_mask.numel()).reshape(inputs.loss_mask.shape)

    def filled(name: str, value: Tensor) -> Tensor:
        if value.ndim != 2 or not value.is_floating_point():
            return value
        field = FIELDS.index(name) if name in FIELDS else len(FIELDS)
        of_one_sign = {"entropy": 1}.get(name, -1 if name.endswith("logprobs") else None)
        signs = of_one_sign or 1 - 2 * ((places + field) % 2)
        # Whole multiples would cancel in differences between fields.
        sizes = 1 + (places % 3 + field * 0.37) % 1.9
        return torch.where(inputs.loss_mask, value, (garbage * signs * sizes).to(value.dtype))

    return map_tensors(inputs, filled)


def repeated(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the inputs with the counted tokens of every sequence twice, one after the other."""
    mask = inputs.loss_mask
    spans = [row.nonzero().flatten() for row in mask]
    starts = [int(span[0]) for span in spans]
    order = [torch.cat([torch.arange(start), span, span]) for start, span in zip(starts, spans, strict=True)]
    width = max(map(len, order))

    def doubled(_: str, value: Tensor) -> Tensor:
        if value.ndim < 2:
            return value
        rows = [pad(row[places], (0, width - len(places))) for row, places in zip(value, order, strict=True)]
        return torch.stack(rows)

    return map_tensors(inputs, doubled)


def moved(
    inputs: BatchLossInputs, nats: Sequence[float], *, token: int | None = None, others: Sequence[str] = OTHERS
) -> BatchLossInputs:
    """Return the inputs with the policy at these distances above the other policies, at one counted token or at all of them.

    The higher one of two policies has the policy's log-probs, so that no log-prob rises above 0.

    Args:
        inputs: the inputs.
        nats: one distance per row. Negative: the policy lies below.
        token: move only this counted token of each row.
        others: the fields of the other policies. Those that are left out move with the policy.
    """
    chosen = inputs.loss_mask.clone()
    if token is not None:
        chosen[:] = False
        for row, mask in enumerate(inputs.loss_mask):
            chosen[row, mask.nonzero().flatten()[token]] = True
    distances = torch.tensor(nats, dtype=torch.double).unsqueeze(1)
    own = inputs.trainer_logprobs.double()
    policy, other = own + distances.clamp(max=0), own - distances.clamp(min=0)

    def change(name: str, value: Tensor) -> Tensor:
        if not name.endswith("logprobs"):
            return value
        return torch.where(chosen, other if name in others else policy, value.double()).to(value.dtype)

    return map_tensors(inputs, change)


def padded(inputs: BatchLossInputs, columns: int) -> BatchLossInputs:
    """Return the inputs with this many more columns of padding on the right."""
    return map_tensors(inputs, lambda _, value: pad(value, (0, columns)) if value.ndim == 2 else value)


def with_longer_prompts(inputs: BatchLossInputs, columns: int) -> BatchLossInputs:
    """Return the inputs with this many more tokens in front of each prompt."""
    return map_tensors(inputs, lambda _, value: pad(value, (columns, 0)) if value.ndim == 2 else value)


def rows_of(inputs: BatchLossInputs, rows: Sequence[int]) -> BatchLossInputs:
    """Return some rows, in this order, as wide as the longest of them."""
    parts = [keep_rows(inputs, torch.arange(len(inputs.loss_mask)) == row) for row in rows]
    width = int(inputs.loss_mask[list(rows)].any(dim=0).nonzero().max()) + 1
    metadata = [part.metadata[0] for part in parts if part.metadata]
    together = map_tensors(parts[0], lambda name, _: torch.cat([getattr(part, name) for part in parts]))
    narrow = map_tensors(together, lambda _, value: value[:, :width] if value.ndim == 2 else value)
    return replace(narrow, metadata=metadata)
