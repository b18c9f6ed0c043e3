"""The promise about rows that an extension emptied: they contribute nothing, and the others what they did before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from plugrad.contracts.loss import BatchLossInputs
from plugrad.hookspecs import hookimpl
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.weights import Counts, count_rows, row_weights
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.hosting import hooks_around
from plugrad.testing.losses.batches import GROUPS, LENGTHS, Draw, rows_of
from plugrad.testing.losses.cuts import refuse_cut_dependent
from plugrad.testing.losses.evaluation import TOLERANCE, TriedLoss

DROPPED = (1, 4)
KEPT = tuple(row for row in range(len(LENGTHS)) if row not in DROPPED)
COUNTS = Counts(tokens=sum(LENGTHS), sequences=len(LENGTHS), groups=len(set(GROUPS)), max_new_tokens=max(LENGTHS))


@dataclass(frozen=True)
class _Drop:
    """An extension that drops every token of some rows."""

    rows: tuple[int, ...]

    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs):  # type: ignore[no-untyped-def]
        prepared = yield
        dropped = torch.isin(torch.arange(len(LENGTHS)), torch.tensor(self.rows)).unsqueeze(1)
        return replace(prepared, loss_mask=prepared.loss_mask & ~dropped)


def _emptied_rows(loss: TriedLoss) -> str:
    # Only here: the step brings Accelerate with it, which takes seconds to import.
    from plugrad.trainer.step import Ledger, weighted_sum

    refuse_cut_dependent(loss)
    inputs, bound = Draw()(), loss.fresh()
    leaf = inputs.trainer_logprobs.clone().requires_grad_()
    batch = _micro_batch(inputs)
    total = weighted_sum(hooks_around(_Drop(DROPPED)), bound, replace(inputs, trainer_logprobs=leaf), batch, Ledger())
    weights = row_weights(bound.reduction, batch.row_counts, batch.counts)
    rows = loss.rows(rows_of(inputs, KEPT))
    expected = sum(float(weights[row]) * kept.value for row, kept in zip(KEPT, rows, strict=True))
    if not abs(total.item() - expected) <= TOLERANCE * max(1.0, abs(expected)):
        raise Broken(
            f"without two emptied sequences the others' share of the objective goes from {expected:.6g} to {total:.6g}"
        )
    (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True) if total.requires_grad else (None,)
    if gradient is not None and bool(gradient[list(DROPPED)].any()):
        raise Broken("emptied sequences have a gradient")
    return f"two of {len(LENGTHS)} contribute 0, the others what they did"


def _micro_batch(inputs: BatchLossInputs) -> MicroBatch:
    assert inputs.input_ids is not None
    assert inputs.reward is not None
    assert inputs.group_ids is not None
    return MicroBatch(
        input_ids=inputs.input_ids,
        attention_mask=inputs.loss_mask,
        loss_mask=inputs.loss_mask,
        advantages=inputs.advantages,
        inference_logprobs=inputs.inference_logprobs,
        reward=inputs.reward,
        group_ids=inputs.group_ids,
        metadata=list(inputs.metadata or []),
        rows=list(range(len(LENGTHS))),
        row_counts=count_rows(LENGTHS, GROUPS),
        counts=COUNTS,
    )


EMPTIED: tuple[Promise[TriedLoss], ...] = (
    Promise(
        "emptied_rows",
        "sequences that an extension emptied contribute nothing, and leave the others as they are",
        "An extension that drops what engine and trainer disagree on must not change what the rest teaches.",
        "Read which tokens count from inputs.loss_mask, at every call; keep no count from another call.",
        _emptied_rows,
    ),
)
