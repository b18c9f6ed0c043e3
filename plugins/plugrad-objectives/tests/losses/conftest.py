"""Builders of the inputs of losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from plugrad import BatchLossInputs


@pytest.fixture
def batch() -> Callable[..., BatchLossInputs]:
    """Build a micro-batch from a mask and whatever else a loss reads; log-probs that are not given are zeros."""

    def build(**fields: Any) -> BatchLossInputs:
        zeros = torch.zeros(fields["loss_mask"].shape, dtype=torch.float64)
        given = dict.fromkeys(("trainer_logprobs", "inference_logprobs", "advantages"), zeros)
        return BatchLossInputs(**{**given, **fields})

    return build


@pytest.fixture
def rows(batch: Callable[..., BatchLossInputs]) -> Callable[..., BatchLossInputs]:
    """Build rows of tokens with these log-probs, one prompt token before each, padded with numbers that do not count."""

    def padded(given: Sequence[Sequence[float]], width: int) -> Tensor:
        return torch.tensor([[7.0, *row, *[50.0] * (width - len(row))] for row in given], dtype=torch.float64)

    def build(
        logprobs: Sequence[Sequence[float]], reference: Sequence[Sequence[float]] | None = None, **fields: Any
    ) -> BatchLossInputs:
        width = max(map(len, logprobs))
        lengths = torch.tensor([[len(row)] for row in logprobs])
        places = torch.arange(width + 1)
        given: dict[str, Any] = {
            "loss_mask": (places >= 1) & (places <= lengths),
            "trainer_logprobs": padded(logprobs, width).requires_grad_(),
        }
        if reference is not None:
            given["ref_logprobs"] = padded(reference, width)
        return batch(**{**given, **fields})

    return build


@pytest.fixture
def pairs() -> dict[str, Tensor]:
    """Which rows of two pairs are the chosen and which the rejected ones: 0 and 1 of the first prompt, then of another."""
    return {"group_ids": torch.tensor([0, 0, 1, 1]), "member": torch.tensor([0, 1, 0, 1])}
