"""Losses that mix sequences, exact at any cut.

Such a loss is called once for all rows of an update, of all ranks, with the policy's outputs as leaves: this gives its
derivative g with respect to them. Each micro-batch then adds the sum over its rows of <g, output>, which is linear in each
row: its gradient is that of the loss, however the rows are cut and wherever they are.

The price is one forward pass without gradient per update, and an exchange of what the loss reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import POLICY_OUTPUTS
from plugrad.host.hooks import Hooks
from plugrad.host.loss import BoundLoss
from plugrad.host.trial import random_state_of
from plugrad.policy.micro_batches import MicroBatch
from plugrad.trainer.capture.watch import Watch
from plugrad.trainer.update.learner import Learner, wanted_by
from plugrad.trainer.update.made_passes import one_pass
from plugrad.trainer.update.objective import Forwarded, forward
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.slopes import Output, Piece, joined, joined_rows, seed_of_mixing, slopes_of
from plugrad.trainer.update.weighted_losses import Ledger, Rows

Slopes = Mapping[Output, Tensor]
"""By output: the derivative of the objective with respect to it, for the rows of one micro-batch."""


def slopes_of_mixing_losses(
    learner: Learner,
    micro_batches: Sequence[MicroBatch],
    hooks: Hooks,
    progress: Progress,
    ledger: Ledger,
    watch: Watch,
) -> list[Slopes]:
    """Call every loss that mixes sequences; return what each micro-batch adds to the gradient for them.

    Every rank calls it, and computes the same. The main rank enters the values in its ledger.
    """
    losses = [loss for loss in learner.losses if loss.facts.whole_batch]
    if not losses:
        return [{} for _ in micro_batches]
    own = _score(learner, micro_batches, progress, losses)
    rows, places = _everyones(learner, own, micro_batches)
    total: dict[Output, Tensor] = {}
    with watch.passing(rows, is_micro_batch=False):
        for loss in losses:
            noted = ledger if learner.ranks.is_main else Ledger()
            # The same random numbers on every rank, whatever each has sampled.
            seed = seed_of_mixing(learner.seed, progress.version, loss.label)
            with watch.call(loss), random_state_of(seed):
                found = slopes_of(hooks, loss, rows, noted)
            for name, slope in found.items():
                total[name] = total[name] + slope if name in total else slope
    others = [name for name in total if isinstance(name, str) and name not in POLICY_OUTPUTS]
    of_parameters: dict[Output, Tensor] = {name: total.pop(name) for name in others}
    slopes = [_of_micro_batch(total, of_own, m) for of_own, m in zip(places, micro_batches, strict=True)]
    if learner.ranks.is_main:
        # They belong to no row, and what every rank and micro-batch adds is summed: one of them adds all.
        slopes[0] = {**slopes[0], **of_parameters}
    return slopes


def _score(
    learner: Learner, micro_batches: Sequence[MicroBatch], progress: Progress, losses: Sequence[BoundLoss]
) -> list[Forwarded]:
    """Return what the losses get of each micro-batch, without gradient."""
    wanted = wanted_by(losses)
    with torch.no_grad():
        return [forward(learner, m, progress, wanted, one_pass(learner, m)) for m in micro_batches]


def _everyones(
    learner: Learner, own: Sequence[Forwarded], micro_batches: Sequence[MicroBatch]
) -> tuple[Rows, list[list[int]]]:
    """Return the rows of all ranks in the order of their groups, and the places there of each own micro-batch's rows."""
    pieces = [
        Piece(_tensors(given), given.inputs.metadata, micro_batch.row_counts)
        for given, micro_batch in zip(own, micro_batches, strict=True)
        if micro_batch.rows
    ]
    shares = learner.ranks.gather(pieces)
    shared = [piece for share in shares for piece in share]
    if not shared:
        return _no_rows(own[0], micro_batches[0]), [[] for _ in micro_batches]
    rows, places = joined_rows(shared, own[0].inputs, list(own[0].divergences), micro_batches[0].counts)
    following = iter(places[sum(map(len, shares[: learner.ranks.index])) :])
    return rows, [next(following) if micro_batch.rows else [] for micro_batch in micro_batches]


def _no_rows(own: Forwarded, micro_batch: MicroBatch) -> Rows:
    return Rows(own.inputs, micro_batch.row_counts, micro_batch.counts, all_count=False, divergences=own.divergences)


def _tensors(given: Forwarded) -> dict[Output, Tensor]:
    values: dict[Output, Any] = {field.name: getattr(given.inputs, field.name) for field in fields(given.inputs)}
    values.update(dict[Output, Any](given.divergences.items()))
    return {name: value.cpu() for name, value in values.items() if isinstance(value, Tensor)}


def _of_micro_batch(slopes: Slopes, places: Sequence[int], micro_batch: MicroBatch) -> Slopes:
    if not micro_batch.rows:
        return {}
    rows = torch.tensor(places, device=micro_batch.loss_mask.device)
    width = micro_batch.loss_mask.shape[1]
    return {name: joined([slope[rows]], name, width) for name, slope in slopes.items()}
