"""Inputs to losses: tokens with ratios that can be done by hand, and a batch drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from plugrad import BatchLossInputs

LOGPROB = -2.0


def build_rows(
    ratios: Sequence[Sequence[float]],
    advantages: Sequence[Sequence[float]],
    *,
    probability: float | None = None,
    dtype: torch.dtype = torch.float64,
    **others: Any,
) -> BatchLossInputs:
    """Return sequences whose tokens have these ratios of the policy to the old, sampling and reference policies.

    A shorter row is padded. `probability` is the other policies' for every token; other fields may be given as they are.
    """
    other_logprob = LOGPROB if probability is None else torch.tensor(probability).log().item()
    lengths = torch.tensor([len(row) for row in ratios]).unsqueeze(1)
    width = int(lengths.max())
    mask = torch.arange(width) < lengths

    def padded(rows: Sequence[Sequence[float]], filler: float) -> Tensor:
        return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows], dtype=dtype)

    other = torch.full(mask.shape, other_logprob, dtype=dtype)
    values: dict[str, Any] = {
        "inference_logprobs": other,
        "teacher_logprobs": None,
        "old_logprobs": other,
        "ref_logprobs": other,
        "entropy": torch.ones(mask.shape, dtype=dtype, requires_grad=True),
        "reward": torch.ones(len(ratios), dtype=dtype),
        "group_ids": torch.arange(len(ratios)),
    }
    policy = (other + padded(ratios, 1.0).log()).requires_grad_()
    return BatchLossInputs(
        trainer_logprobs=policy, advantages=padded(advantages, 0.0), loss_mask=mask, **{**values, **others}
    )


def draw_batch(*, dtype: torch.dtype = torch.float64, on_policy: bool = False) -> BatchLossInputs:
    """Return four sequences of 7, 1, 4 and 9 tokens after two of the prompt; what is masked is noise."""
    generator = torch.Generator().manual_seed(0)
    positions, lengths = torch.arange(11), torch.tensor([[7], [1], [4], [9]])
    mask = (positions >= 2) & (positions < 2 + lengths)

    def drawn(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(mask.shape, generator=generator)).to(dtype)

    policy = drawn(-3, -0.1)
    moved = 0.0 if on_policy else 1.0
    return BatchLossInputs(
        trainer_logprobs=policy.clone().requires_grad_(),
        inference_logprobs=policy + moved * drawn(-0.6, 0.6),
        teacher_logprobs=drawn(-3, -0.1),
        advantages=drawn(-1, 1)[:, :1].expand(mask.shape),
        loss_mask=mask,
        old_logprobs=policy + moved * drawn(-0.6, 0.6),
        ref_logprobs=drawn(-3, -0.1),
        entropy=drawn(0, 2).requires_grad_(),
        reward=torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=dtype),
        group_ids=torch.tensor([0, 0, 1, 1]),
    )


def grow(inputs: BatchLossInputs, padding: int, filler: float) -> BatchLossInputs:
    """Return the same with `padding` more slots at the right, and `filler` in every slot that does not count."""
    changed: dict[str, Any] = {}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, Tensor) and value.is_floating_point():
            wide = torch.nn.functional.pad(value.detach(), (0, padding), value=filler)
            mask = torch.nn.functional.pad(inputs.loss_mask, (0, padding))
            changed[field.name] = torch.where(mask, wide, filler).requires_grad_(value.requires_grad)
    return replace(inputs, loss_mask=torch.nn.functional.pad(inputs.loss_mask, (0, padding)), **changed)


def sums_and_gradients(loss: Callable[..., Any], inputs: BatchLossInputs, **options: Any) -> tuple[Tensor, Tensor]:
    """Return each row's sum over its counted tokens, as the host takes it, and the gradient by the tokens' log-probs."""
    per_token = loss(inputs, **options).loss
    assert per_token.shape == inputs.loss_mask.shape
    sums = torch.where(inputs.loss_mask, per_token, 0.0).sum(dim=1)
    # A bonus on the entropy has no gradient by the log-probs.
    (gradient,) = torch.autograd.grad(sums.sum(), inputs.trainer_logprobs, allow_unused=True, materialize_grads=True)
    return sums.detach(), gradient


@pytest.fixture
def rows() -> Callable[..., BatchLossInputs]:
    return build_rows


@pytest.fixture
def drawn() -> Callable[..., BatchLossInputs]:
    return draw_batch


@pytest.fixture
def grown() -> Callable[..., BatchLossInputs]:
    return grow


@pytest.fixture
def evaluate() -> Callable[..., tuple[Tensor, Tensor]]:
    return sums_and_gradients


@pytest.fixture
def close() -> Callable[[Any, Any], None]:
    def close(found: Any, expected: Any) -> None:
        expected = torch.as_tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(torch.as_tensor(found).detach().double(), expected, rtol=1e-6, atol=1e-6)

    return close
