"""Micro-batches to try losses on, and the ways in which they are cut, padded and turned that must not matter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.loss import keep_rows

LENGTHS = (7, 3, 12, 5, 1, 9, 4)
GROUPS = (0, 0, 0, 1, 1, 2, 2)
PROMPT_LENGTH = 2
FIRST_TOKEN, LAST_TOKEN = 3, 50


@dataclass(frozen=True)
class Draw:
    """How a batch of seven sequences of unequal length is drawn."""

    drift: float = 0.5
    """The policy's log-probs are up to so many nats from those of the policies that sampled."""
    dtype: torch.dtype = torch.double
    seed: int = 0
    advantage: float | None = None
    """Of every token; by default each has its own, between -1 and 1."""

    def __call__(self) -> BatchLossInputs:
        """Draw it; the random state of the process stays as it is."""
        generator = torch.Generator().manual_seed(self.seed)
        positions = torch.arange(PROMPT_LENGTH + max(LENGTHS))
        lengths = torch.tensor(LENGTHS).unsqueeze(1)
        mask = (positions >= PROMPT_LENGTH) & (positions < PROMPT_LENGTH + lengths)

        def drawn(low: float, high: float) -> Tensor:
            # In float64, so that each dtype gets the same numbers, rounded.
            values = low + (high - low) * torch.rand(mask.shape, generator=generator, dtype=torch.double)
            return torch.where(mask, values, 0.0)

        trainer_logprobs = drawn(-3, 0)
        inference_logprobs = trainer_logprobs + drawn(-self.drift, self.drift)
        teacher_logprobs = drawn(-3, 0)
        advantages = drawn(-1, 1) if self.advantage is None else self.advantage * mask.double()
        old_logprobs = trainer_logprobs + drawn(-self.drift, self.drift)
        inputs = BatchLossInputs(
            trainer_logprobs=trainer_logprobs,
            inference_logprobs=inference_logprobs,
            teacher_logprobs=teacher_logprobs,
            advantages=advantages,
            loss_mask=mask,
            old_logprobs=old_logprobs,
            ref_logprobs=drawn(-3, 0),
            entropy=drawn(0, 2),
            input_ids=torch.randint(FIRST_TOKEN, LAST_TOKEN, mask.shape, generator=generator),
            reward=torch.rand(len(LENGTHS), generator=generator, dtype=torch.double),
            group_ids=torch.tensor(GROUPS),
            metadata=[{"example_id": row} for row in range(len(LENGTHS))],
        )
        return changed(inputs, lambda _, value: value.to(self.dtype) if value.is_floating_point() else value)


def on_policy(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the same where the policy is still the one that sampled, the reference and the teacher."""
    own = inputs.trainer_logprobs
    return replace(inputs, inference_logprobs=own, old_logprobs=own, ref_logprobs=own, teacher_logprobs=own)


def with_row_advantages(inputs: BatchLossInputs, rows: Sequence[float]) -> BatchLossInputs:
    """Return the same where all tokens of a row have its advantage."""
    values = torch.tensor(rows, dtype=inputs.advantages.dtype).unsqueeze(1)
    return replace(inputs, advantages=values * inputs.loss_mask)


def changed(inputs: BatchLossInputs, change: Callable[[str, Tensor], Tensor]) -> BatchLossInputs:
    """Return the inputs with `change(name, value)` in place of each tensor."""
    values: dict[str, Any] = {name: change(name, value) for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    return replace(inputs, **values)


def with_garbage(inputs: BatchLossInputs, garbage: float) -> BatchLossInputs:
    """Return the same with other numbers, of both signs, in the slots that are masked."""
    signs = torch.ones_like(inputs.loss_mask, dtype=torch.double)
    signs[:, ::2] = -1

    def filled(_: str, value: Tensor) -> Tensor:
        if value.ndim != 2 or not value.is_floating_point():
            return value
        return torch.where(inputs.loss_mask, value, (garbage * signs).to(value.dtype))

    return changed(inputs, filled)


def padded(inputs: BatchLossInputs, columns: int) -> BatchLossInputs:
    """Return the same with so many more columns of padding at the right."""
    return changed(inputs, lambda _, value: pad(value, (0, columns)) if value.ndim == 2 else value)


def rows_of(inputs: BatchLossInputs, rows: Sequence[int]) -> BatchLossInputs:
    """Return some rows in this order, as wide as the longest of them."""
    parts = [keep_rows(inputs, torch.arange(len(inputs.loss_mask)) == row) for row in rows]
    width = int(inputs.loss_mask[list(rows)].any(dim=0).nonzero().max()) + 1
    metadata = [part.metadata[0] for part in parts if part.metadata]
    together = changed(parts[0], lambda name, _: torch.cat([getattr(part, name) for part in parts]))
    narrow = changed(together, lambda _, value: value[:, :width] if value.ndim == 2 else value)
    return replace(narrow, metadata=metadata)
