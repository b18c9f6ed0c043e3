"""Rows of several micro-batches as one, and the derivative of a loss with respect to what a model gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor
from torch.nn.functional import pad

from plugrad.contracts.loss import OF_SEQUENCES, BatchLossInputs
from plugrad.contracts.needs import TeacherDivergence
from plugrad.host.calling import no_gradient
from plugrad.host.hooks import Hooks
from plugrad.host.loss import BoundLoss
from plugrad.policy.reductions import Counts, RowCounts
from plugrad.trainer.update.model_outputs import model_outputs, with_model_outputs
from plugrad.trainer.update.weighted_losses import Ledger, Rows, weighted_sum

Output = str | TeacherDivergence
"""A field of the losses' inputs, or for `teacher_divergence`, of which there may be several, what was asked for. Or a
parameter of a loss."""


def seed_of_mixing(seed: int, version: int, label: str) -> int:
    """Return what seeds a loss that mixes sequences, in an update of the policy of this version.

    The other losses of a run do not change what it draws, so that it draws the same where it is called alone, in a replay.
    """
    return (seed * 1_000_003 + version + crc32(label.encode())) % 2**32


class Piece(NamedTuple):
    """The rows of a micro-batch."""

    columns: Mapping[Output, Tensor]
    """What the losses get of them, divergences among it."""
    metadata: Sequence[Mapping[str, Any]] | None
    row_counts: RowCounts


def joined_rows(
    pieces: Sequence[Piece], like: BatchLossInputs, divergences: Sequence[TeacherDivergence], counts: Counts
) -> tuple[Rows, list[list[int]]]:
    """Return the rows of micro-batches in the order of their groups, and the places there of each piece's rows.

    A rollout in several segments has several rows of one group and member, which stay in the order of the pieces.

    Args:
        pieces: one or more, with the same columns.
        like: has what is not of rows.
        divergences: which of the columns are divergences from a teacher.
        counts: of the whole batch.
    """
    # As wide as the longest row, whatever it was padded with: a loss that draws numbers gets as many at every cut.
    width = max(int(piece.columns["loss_mask"].any(dim=0).nonzero().max()) + 1 for piece in pieces)
    columns = {name: joined([piece.columns[name] for piece in pieces], name, width) for name in pieces[0].columns}
    metadata = [example for piece in pieces for example in piece.metadata or []]
    keys = list(zip(columns["group_ids"].tolist(), columns["member"].tolist(), strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    device = like.loss_mask.device
    ordered: dict[Any, Any] = {name: column[order].to(device) for name, column in columns.items()}
    own = {name: ordered.pop(name) for name in divergences}
    inputs = replace(like, **ordered, metadata=[metadata[row] for row in order])
    of_rows = [
        torch.cat([getattr(piece.row_counts, name) for piece in pieces])[order] for name in ("tokens", "group_tokens")
    ]
    rows = Rows(inputs, RowCounts(*of_rows), counts, all_count=True, divergences=own)
    places = {row: place for place, row in enumerate(order)}
    sizes = [len(piece.columns["loss_mask"]) for piece in pieces]
    firsts = accumulate(sizes[:-1], initial=0)
    return rows, [[places[first + row] for row in range(size)] for first, size in zip(firsts, sizes, strict=True)]


def joined(parts: Sequence[Tensor], name: Output, width: int) -> Tensor:
    """Put rows below one another, of one width."""
    if name in OF_SEQUENCES:
        return torch.cat(list(parts))
    return torch.cat([pad(part[:, :width], (0, max(0, width - part.shape[1]))) for part in parts])


def slopes_of(hooks: Hooks, loss: BoundLoss, rows: Rows, ledger: Ledger) -> dict[Output, Tensor]:
    """Return the derivative of the loss's share of the objective with respect to each output of the policy and parameter."""
    outputs: dict[Any, Tensor] = {**model_outputs(rows.inputs), **rows.divergences}
    leaves = {name: value.detach().requires_grad_() for name, value in outputs.items()}
    # As outputs of a model are, these are results of a computation: a leaf could not be changed in place unnoticed.
    given: dict[Any, Tensor] = {name: leaf.clone() for name, leaf in leaves.items()}
    divergences = {name: given.pop(name) for name in rows.divergences}
    changed = replace(rows, inputs=with_model_outputs(rows.inputs, given), divergences=divergences)
    term = weighted_sum(hooks, loss, changed, ledger)
    if term is None or not term.requires_grad:
        return {}
    try:
        found = torch.autograd.grad(loss.weight * term, list(leaves.values()), allow_unused=True)
    except RuntimeError as error:
        raise no_gradient(str(loss.component), error) from error
    return {name: slope for name, slope in zip(leaves, found, strict=True) if slope is not None}
