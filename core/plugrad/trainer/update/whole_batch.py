"""Losses that mix sequences, exact at any cut.

Such a loss is called once for all rows of an update, of all ranks, with the policy's outputs as leaves: this gives its
derivative g with respect to them. Each micro-batch then adds the sum over its rows of <g, output>, which is linear in each
row: its gradient is that of the loss, however the rows are cut and wherever they are.

The price is one forward pass without gradient per update, and an exchange of what the loss reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from plugrad.contracts.loss import OF_SEQUENCES, POLICY_OUTPUTS
from plugrad.contracts.needs import TeacherDivergence
from plugrad.host.calling import no_gradient
from plugrad.host.hooks import Hooks
from plugrad.host.loss import BoundLoss
from plugrad.host.trial import random_state_of
from plugrad.policy.micro_batches import MicroBatch
from plugrad.policy.reductions import RowCounts
from plugrad.trainer.update.learner import Learner, wanted_by
from plugrad.trainer.update.objective import Forwarded, Ledger, Rows, forward, weighted_sum
from plugrad.trainer.update.run_progress import Progress

Output = str | TeacherDivergence
"""A field of the losses' inputs, or for `teacher_divergence`, of which there may be several, what was asked for."""
Slopes = Mapping[Output, Tensor]
"""By output of the policy: the derivative of the objective with respect to it, for the rows of one micro-batch."""


def slopes_of_mixing_losses(
    learner: Learner, micro_batches: Sequence[MicroBatch], hooks: Hooks, progress: Progress, ledger: Ledger
) -> list[Slopes]:
    """Call every loss that mixes sequences; return what each micro-batch adds to the gradient for them.

    Every rank calls it, and computes the same. The main rank enters the values in its ledger.
    """
    losses = [loss for loss in learner.losses if loss.facts.whole_batch]
    if not losses:
        return [{} for _ in micro_batches]
    own = _score(learner, micro_batches, progress, losses)
    rows, place = _everyones(learner, own, micro_batches)
    total: dict[Output, Tensor] = {}
    # The same random numbers on every rank, whatever each has sampled.
    with random_state_of((learner.seed * 1_000_003 + progress.version) % 2**32):
        for loss in losses:
            noted = ledger if learner.ranks.is_main else Ledger()
            for name, slope in _slopes(hooks, loss, rows, noted).items():
                total[name] = total[name] + slope if name in total else slope
    return [_of_micro_batch(total, place, micro_batch) for micro_batch in micro_batches]


def _score(
    learner: Learner, micro_batches: Sequence[MicroBatch], progress: Progress, losses: Sequence[BoundLoss]
) -> list[Forwarded]:
    """Return what the losses get of each micro-batch, without gradient."""
    wanted = wanted_by(losses)
    with torch.no_grad():
        return [forward(learner, micro_batch, progress, wanted) for micro_batch in micro_batches]


def _everyones(
    learner: Learner, own: Sequence[Forwarded], micro_batches: Sequence[MicroBatch]
) -> tuple[Rows, dict[tuple[int, int], int]]:
    """Return the rows of all ranks in the order of their groups, and the place of each by group and member."""
    pieces = [
        (_tensors(given), given.inputs.metadata, micro_batch.row_counts)
        for given, micro_batch in zip(own, micro_batches, strict=True)
        if micro_batch.rows
    ]
    shared = [piece for share in learner.ranks.gather(pieces) for piece in share]
    if not shared:
        return _no_rows(own[0], micro_batches[0]), {}
    # As wide as the longest row, whatever it was padded with: a loss that draws numbers gets as many at every cut.
    width = max(int(piece["loss_mask"].any(dim=0).nonzero().max()) + 1 for piece, *_ in shared)
    columns = {name: _joined([piece[name] for piece, *_ in shared], name, width) for name in shared[0][0]}
    metadata = [example for _, examples, _ in shared for example in examples or []]
    keys = list(zip(columns["group_ids"].tolist(), columns["member"].tolist(), strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    device = learner.accelerator.device
    ordered: dict[Any, Any] = {name: column[order].to(device) for name, column in columns.items()}
    divergences = {name: ordered.pop(name) for name in own[0].divergences}
    inputs = replace(own[0].inputs, **ordered, metadata=[metadata[row] for row in order])
    counts = [torch.cat([getattr(counts, name) for *_, counts in shared])[order] for name in ("tokens", "group_tokens")]
    everyones = Rows(inputs, RowCounts(*counts), micro_batches[0].counts, all_count=True, divergences=divergences)
    return everyones, {keys[row]: place for place, row in enumerate(order)}


def _no_rows(own: Forwarded, micro_batch: MicroBatch) -> Rows:
    return Rows(own.inputs, micro_batch.row_counts, micro_batch.counts, all_count=False, divergences=own.divergences)


def _tensors(given: Forwarded) -> dict[Output, Tensor]:
    values: dict[Output, Any] = {field.name: getattr(given.inputs, field.name) for field in fields(given.inputs)}
    values.update(dict[Output, Any](given.divergences.items()))
    return {name: value.cpu() for name, value in values.items() if isinstance(value, Tensor)}


def _joined(parts: Sequence[Tensor], name: Output, width: int) -> Tensor:
    """Put rows below one another, of one width."""
    if name in OF_SEQUENCES:
        return torch.cat(list(parts))
    return torch.cat([pad(part[:, :width], (0, max(0, width - part.shape[1]))) for part in parts])


def _slopes(hooks: Hooks, loss: BoundLoss, rows: Rows, ledger: Ledger) -> dict[Output, Tensor]:
    """Return the derivative of the loss's share of the objective with respect to each output of the policy."""
    outputs: dict[Output, Any] = {name: getattr(rows.inputs, name) for name in POLICY_OUTPUTS}
    outputs.update(dict[Output, Any](rows.divergences.items()))
    leaves = {name: value.detach().requires_grad_() for name, value in outputs.items() if value is not None}
    # As outputs of a model are, these are results of a computation: a leaf could not be changed in place unnoticed.
    given: dict[Any, Any] = {name: leaf.clone() for name, leaf in leaves.items()}
    divergences = {name: given.pop(name) for name in rows.divergences}
    changed = replace(rows, inputs=replace(rows.inputs, **given), divergences=divergences)
    term = weighted_sum(hooks, loss, changed, ledger)
    if term is None or not term.requires_grad:
        return {}
    try:
        found = torch.autograd.grad(loss.weight * term, list(leaves.values()), allow_unused=True)
    except RuntimeError as error:
        raise no_gradient(str(loss.component), error) from error
    return {name: slope for name, slope in zip(leaves, found, strict=True) if slope is not None}


def _of_micro_batch(slopes: Slopes, place: Mapping[tuple[int, int], int], micro_batch: MicroBatch) -> Slopes:
    if not micro_batch.rows:
        return {}
    keys = zip(micro_batch.group_ids.tolist(), micro_batch.member.tolist(), strict=True)
    rows = torch.tensor([place[key] for key in keys], device=micro_batch.loss_mask.device)
    width = micro_batch.loss_mask.shape[1]
    return {name: _joined([slope[rows]], name, width) for name, slope in slopes.items()}
