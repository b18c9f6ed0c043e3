"""Checks of losses: what every loss promises, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.markers import LossFacts
from plugrad.host.load import load_component
from plugrad.host.loss import BoundLoss, compute_loss, keep_rows, sum_rows
from plugrad.registry.bind import Component, bind
from plugrad.registry.resolve import Source
from plugrad.registry.scan import scan

LENGTHS = (7, 3, 12, 5, 1, 9, 4)
PROMPT_LENGTH = 2
CUTS = ([3, 4], [2, 2, 3], [1, 1, 1, 1, 1, 1, 1])
TOLERANCE = 1e-9

WHY = (
    "How a batch is cut follows from memory and from the number of processes, and must not change what is learnt. Most "
    "often such a loss divides by loss_mask.sum(), or takes a mean, over its micro-batch: return the values per token, or "
    "their sum per sequence, and let `reduction` divide by the counts of the whole batch. A loss that has to see several "
    "sequences at once says so with @loss(cut_dependent=True)."
)


def check_micro_batches_add_up(loss: str | Callable[..., Any], **options: Any) -> None:
    """Check that a loss gives a sequence the same value and gradient whichever sequences are cut into its micro-batch.

    Args:
        loss: a name, `module:function`, `file.py:function`, or the function or class itself.
        options: its options; the others take their defaults.

    Raises:
        AssertionError: it does not; the message says what was seen, why it matters, and the usual remedy.
        PlugradError: it cannot be found or called.
    """
    component = _component(loss, options)
    assert isinstance(component.facts, LossFacts)
    if component.facts.cut_dependent:
        return
    batch = _batch()
    whole = _rows(component, [batch])
    for sizes in CUTS:
        parts = [_cut(batch, rows) for rows in torch.arange(len(LENGTHS)).split(sizes)]
        _compare(component, _rows(component, parts), whole, sizes)


def _component(loss: str | Callable[..., Any], options: dict[str, Any]) -> Component:
    if isinstance(loss, str):
        return load_component("loss", loss, options, scan(), [Path.cwd()])
    name = getattr(loss, "__name__", type(loss).__name__)
    target = f"{getattr(loss, '__module__', '?')}:{name}"
    return bind(Source("loss", target, name, target), loss, options)


def _batch() -> BatchLossInputs:
    """Draw seven sequences of unequal length; the policy has moved away from the one that sampled."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.arange(PROMPT_LENGTH + max(LENGTHS))
    lengths = torch.tensor(LENGTHS).unsqueeze(1)
    mask = (positions >= PROMPT_LENGTH) & (positions < PROMPT_LENGTH + lengths)

    def drawn(low: float, high: float) -> Tensor:
        values = low + (high - low) * torch.rand(mask.shape, generator=generator, dtype=torch.double)
        return torch.where(mask, values, 0.0)

    trainer_logprobs = drawn(-3, 0)
    return BatchLossInputs(
        trainer_logprobs=trainer_logprobs,
        inference_logprobs=torch.where(mask, trainer_logprobs + drawn(-0.5, 0.5), 0.0),
        teacher_logprobs=drawn(-3, 0),
        advantages=drawn(-1, 1),
        loss_mask=mask,
        old_logprobs=torch.where(mask, trainer_logprobs + drawn(-0.5, 0.5), 0.0),
        ref_logprobs=drawn(-3, 0),
        entropy=drawn(0, 2),
        input_ids=torch.randint(3, 50, mask.shape, generator=generator),
        reward=torch.rand(len(LENGTHS), generator=generator, dtype=torch.double),
        group_ids=torch.tensor([0, 0, 0, 1, 1, 2, 2]),
        metadata=[{"example_id": row} for row in range(len(LENGTHS))],
    )


def _cut(batch: BatchLossInputs, rows: Tensor) -> BatchLossInputs:
    """Return some rows, as wide as the longest of them."""
    kept = keep_rows(batch, torch.isin(torch.arange(len(LENGTHS)), rows))
    width = PROMPT_LENGTH + max(LENGTHS[row] for row in rows.tolist())
    narrow: dict[str, Any] = {n: v[:, :width] for n, v in vars(kept).items() if isinstance(v, Tensor) and v.ndim == 2}
    return replace(kept, **narrow)


def _rows(component: Component, parts: Sequence[BatchLossInputs]) -> list[tuple[float, list[float]]]:
    """Return each sequence's loss, and its gradient by the log-probs and entropies of its tokens, padding left off."""
    assert isinstance(component.facts, LossFacts)
    bound = BoundLoss.create(component, label=component.name, weight=1.0, reduction=component.facts.reduction)
    rows = []
    for part in parts:
        assert part.entropy is not None
        leaves = [part.trainer_logprobs.clone().requires_grad_(), part.entropy.clone().requires_grad_()]
        inputs = bound.view(replace(part, trainer_logprobs=leaves[0], entropy=leaves[1]))
        sums = sum_rows(compute_loss(bound, inputs), part.loss_mask)
        gradients = _gradients(sums, leaves)
        counted = [torch.cat([g[row][part.loss_mask[row]] for g in gradients]).tolist() for row in range(len(sums))]
        rows += list(zip(sums.tolist(), counted, strict=True))
    return rows


def _gradients(sums: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    if not sums.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(sums.sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for grad, leaf in zip(found, leaves, strict=True)]


def _compare(
    component: Component,
    found: list[tuple[float, list[float]]],
    whole: list[tuple[float, list[float]]],
    sizes: Sequence[int],
) -> None:
    for row, ((value, gradient), (expected, expected_gradient)) in enumerate(zip(found, whole, strict=True)):
        assert _close(value, expected), (
            f"{component} gives a sequence of {LENGTHS[row]} tokens the loss {value:.6g} where the batch is cut into "
            f"micro-batches of {', '.join(map(str, sizes))}, and {expected:.6g} where it is not. {WHY}"
        )
        assert all(map(_close, gradient, expected_gradient)), (
            f"{component} gives a sequence of {LENGTHS[row]} tokens another gradient where the batch is cut into "
            f"micro-batches of {', '.join(map(str, sizes))} than where it is not, though the loss is the same. {WHY}"
        )


def _close(found: float, expected: float) -> bool:
    return abs(found - expected) <= TOLERANCE * max(1.0, abs(expected))
