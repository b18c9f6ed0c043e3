"""Responses: counted tokens only, for losses of systems that pass no prompts to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plugrad import BatchLossInputs, LossInputs


@dataclass(frozen=True)
class Responses:
    """Counted tokens, left-aligned, without the slots before, between and after them."""

    inputs: BatchLossInputs
    """The original rows."""
    places: Int[Tensor, "batch tokens"]
    """The position of each token in its row."""
    is_token: Bool[Tensor, "batch tokens"]
    """False in the padding of a shorter row."""

    @classmethod
    def of(cls, inputs: BatchLossInputs) -> Responses:
        """Find the counted tokens of each row."""
        counts = inputs.loss_mask.sum(dim=1)
        longest = int(counts.max())
        places = (~inputs.loss_mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
        return cls(inputs, places, torch.arange(longest, device=counts.device) < counts.unsqueeze(1))

    @property
    def counts(self) -> Int[Tensor, "batch"]:
        """Counted tokens per row."""
        return self.is_token.sum(dim=1)

    @property
    def mask(self) -> Float[Tensor, "batch tokens"]:
        """The mask in the dtype of the log-probs, since foreign code multiplies by it and divides by its sum."""
        return self.is_token.to(self.inputs.trainer_logprobs)

    def of_field(self, name: str) -> Float[Tensor, "batch tokens"]:
        """Return a field of the inputs at the counted tokens, 0 in padding."""
        values: Tensor = getattr(self.inputs, name)
        return torch.where(self.is_token, values.gather(1, self.places), 0.0)


def as_rows(inputs: LossInputs) -> BatchLossInputs:
    """Return one sequence as a micro-batch of one row."""
    values: dict[str, Any] = {field.name: getattr(inputs, field.name) for field in fields(inputs)}
    return BatchLossInputs(**{name: _as_row(value) for name, value in values.items()})


def _as_row(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [value]
    return value.unsqueeze(0) if isinstance(value, Tensor) else value
