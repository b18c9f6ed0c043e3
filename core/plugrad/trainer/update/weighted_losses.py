"""The weighted sums of losses over rows, and what they measure: without a model, so that a recorded batch has them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.contracts.measures import Mean, Measures, Sum
from plugrad.contracts.needs import TeacherDivergence
from plugrad.host.calling import blaming
from plugrad.host.hooks import Hooks
from plugrad.host.loss import BoundLoss, keep_rows, sum_rows
from plugrad.host.reported import add_metrics
from plugrad.policy.reductions import Counts, RowCounts, row_weights

if TYPE_CHECKING:
    from plugrad.trainer.ranks.ranks import Ranks


@dataclass(frozen=True)
class Ledger:
    """What an update adds up over its micro-batches."""

    sums: Measures = field(default_factory=Measures)
    """The objective and each loss's share of it."""
    metrics: Measures = field(default_factory=Measures)
    """What the losses measured."""

    @classmethod
    def of(cls, losses: Sequence[BoundLoss]) -> Ledger:
        """Return a ledger in which every loss has a share of 0: an update may have no row that it counts."""
        ledger = cls()
        for name in ("loss", *(f"{loss.label}/loss" for loss in losses)):
            ledger.sums.add(name, Sum(0.0))
        return ledger

    def add_term(self, loss: BoundLoss, term: Tensor) -> None:
        """Add a part of one loss's share of the objective."""
        self.sums.add(f"{loss.label}/loss", Sum(term.detach()))
        self.sums.add("loss", Sum(loss.weight * term.detach()))

    def totals(self, ranks: Ranks) -> Measures:
        """Return the sums over all ranks. Each counts as one value, so that several updates are averaged."""
        return Measures({name: Mean(measure.value(), 1.0) for name, measure in ranks.add_up(self.sums).items()})


@dataclass(frozen=True)
class Rows:
    """Rows of an optimizer batch, and what the weights of a loss depend on."""

    inputs: BatchLossInputs
    row_counts: RowCounts
    counts: Counts
    all_count: bool
    """Whether each row is known to have a counted token: asking the device would cost a synchronisation."""
    divergences: Mapping[TeacherDivergence, Tensor] = field(default_factory=dict)

    def of(self, loss: BoundLoss) -> BatchLossInputs:
        """Return the fields that a loss reads."""
        own = self.divergences[loss.divergence] if loss.divergence else None
        return loss.view(replace(self.inputs, teacher_divergence=own))


def weighted_sum(hooks: Hooks, loss: BoundLoss, rows: Rows, ledger: Ledger) -> Tensor | None:
    """Return sum_s w_s loss_s over the rows, or None if the loss counts none; add it and the loss's metrics to the ledger.

    Rows in which nothing counts, or that the loss's `where` leaves out, contribute 0 and never reach the loss.
    """
    inputs = rows.of(loss)
    weights = row_weights(loss.reduction, rows.row_counts, rows.counts.of(loss.label)).to(inputs.advantages)
    prepared = hooks.prepare_loss(loss, inputs)
    hooks.check_prepared(prepared, inputs)
    kept = _counting(loss, rows, prepared)
    if kept is not None:
        if not bool(kept.any()):
            return None
        prepared, weights = keep_rows(prepared, kept), weights[kept]
    outputs = hooks.compute_loss(loss, prepared)
    total = (weights * sum_rows(outputs, prepared.loss_mask)).sum()
    ledger.add_term(loss, total)
    owner, num_sequences = str(loss.component), len(prepared.loss_mask)
    with blaming(owner):
        add_metrics(
            ledger.metrics, outputs.metrics, num_sequences, f"{owner} returned", noun="the metric ", prefix=f"{loss.label}/"
        )
    return total


def _counting(loss: BoundLoss, rows: Rows, prepared: BatchLossInputs) -> Tensor | None:
    """Return True for each row that the loss counts `[batch]`, or None if it counts all."""
    mask = prepared.loss_mask
    # Only an extension that changes the mask, or a row that fills up a rank's share, leaves a row without counted tokens.
    kept = None if rows.all_count and mask is rows.inputs.loss_mask else mask.any(dim=1)
    if loss.where is None:
        return kept
    chosen = torch.tensor([loss.where.holds(example) for example in rows.inputs.metadata or []], device=mask.device)
    return chosen if kept is None else kept & chosen
