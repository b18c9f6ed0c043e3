"""Call losses on a captured batch as the run did, and differentiate each with respect to what the model gave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plugrad.host.hooks import Hooks
from plugrad.host.loss import BoundLoss
from plugrad.host.trial import random_state_of
from plugrad.replay.chosen_losses import in_state_of, is_sensed
from plugrad.replay.run_hooks import hooks_of
from plugrad.trainer.capture.capture_files import Capture, CapturedUpdate
from plugrad.trainer.update.slopes import Output, Piece, joined, joined_rows, seed_of_mixing, slopes_of
from plugrad.trainer.update.weighted_losses import Ledger, Rows

AROUND_LOSSES = ("prepare_loss", "compute_loss")

Gradient = Mapping[Output, Tensor]
"""By field of the losses' inputs: the derivative of the weighted loss, for the rows of one micro-batch."""


@dataclass(frozen=True)
class ReplayedLoss:
    """What one loss did to a captured batch."""

    loss: BoundLoss
    value: float
    """Its share of the objective, as the run reports it: without its weight, the mean over the updates of the step."""
    metrics: Mapping[str, float]
    gradients: Sequence[Sequence[Gradient]]
    """By update and micro-batch."""

    @property
    def label(self) -> str:
        """What the loss is called here."""
        return self.loss.label

    def vector(self, like: Sequence[Output], sizes: Sequence[Sequence[Mapping[Output, int]]]) -> Tensor:
        """Return all derivatives as one vector in float64; 0 where the loss depends on nothing."""
        parts = [
            gradient[name].double().flatten() if name in gradient else torch.zeros(size.get(name, 0), dtype=torch.double)
            for of_update, of_sizes in zip(self.gradients, sizes, strict=True)
            for gradient, size in zip(of_update, of_sizes, strict=True)
            for name in like
        ]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.double)

    def norm(self, name: Output = "trainer_logprobs") -> float:
        """Return the norm of the derivative with respect to one field; 0 if there is none."""
        parts = [gradient[name].double() for update in self.gradients for gradient in update if name in gradient]
        return math.sqrt(sum(float(part.square().sum()) for part in parts))

    @property
    def reached(self) -> list[Output]:
        """What its gradient reaches of all that the model gave, parameters of losses among it."""
        return list(dict.fromkeys(name for update in self.gradients for gradient in update for name in gradient))

    def of_logprobs(self, update: int, piece: int, like: Tensor) -> Tensor:
        """Return the derivative with respect to the log-probs of a micro-batch, `[batch, seq]`."""
        found = self.gradients[update][piece].get("trainer_logprobs")
        return torch.zeros_like(like) if found is None else found

    @property
    def is_finite(self) -> bool:
        """Whether its value and all derivatives are."""
        every = (value for update in self.gradients for gradient in update for value in gradient.values())
        return math.isfinite(self.value) and all(bool(torch.isfinite(value).all()) for value in every)


def replay(capture: Capture, losses: Sequence[BoundLoss]) -> list[ReplayedLoss]:
    """Run losses on a capture. The run's extensions that wrap losses are around them, as new instances.

    Raises:
        ContractError: a loss or extension raised, or broke its contract, as it would in a run.
    """
    hooks = hooks_of(capture, AROUND_LOSSES)
    return [_replayed(capture, hooks, loss) for loss in losses]


def cosines(replayed: Sequence[ReplayedLoss]) -> dict[tuple[str, str], float | None]:
    """Return, for each two losses, the cosine of their gradients with respect to all that the model gave.

    It is 1 where they push the same way and -1 where they pull against each other; None where one has no gradient.
    """
    names: list[Output] = list(
        dict.fromkeys(n for r in replayed for update in r.gradients for g in update for n in g if is_sensed(n))
    )
    sizes: list[list[dict[Output, int]]] = [
        [
            {name: value.numel() for gradient in pieces for name, value in gradient.items()}
            for pieces in zip(*of_update, strict=True)
        ]
        for of_update in zip(*(each.gradients for each in replayed), strict=True)
    ]
    vectors = {each.label: each.vector(names, sizes) for each in replayed}
    found: dict[tuple[str, str], float | None] = {}
    for place, one in enumerate(replayed):
        for other in replayed[place + 1 :]:
            a, b = vectors[one.label], vectors[other.label]
            norms = float(a.norm() * b.norm())
            usable = norms > 0 and math.isfinite(norms)
            found[one.label, other.label] = float(a @ b) / norms if usable else None
    return found


def without_gradient(capture: Capture, replayed: ReplayedLoss) -> float:
    """Return the share of counted tokens to which a loss gives no gradient, by log-prob or any other number of a token."""
    counted = still = 0
    for update, gradients in zip(capture.updates, replayed.gradients, strict=True):
        for piece, gradient in zip(update.pieces, gradients, strict=True):
            mask = piece.inputs.loss_mask
            moved = torch.zeros_like(mask)
            for value in gradient.values():
                if value.shape[:2] == mask.shape:
                    moved |= value.reshape(*mask.shape, -1).ne(0).any(dim=2)
            counted += int(mask.sum())
            still += int((mask & ~moved).sum())
    return still / counted if counted else math.nan


def _replayed(capture: Capture, hooks: Hooks, loss: BoundLoss) -> ReplayedLoss:
    gradients, values, metrics = [], [], Ledger()
    for update in capture.updates:
        ledger = Ledger.of([loss])
        bound = in_state_of(loss, update)
        find = _of_whole_batch if loss.facts.whole_batch else _of_micro_batches
        seed = int(capture.facts["run_file"].get("seed", 0))
        with random_state_of(seed_of_mixing(seed, update.version, loss.label)):
            gradients.append(find(hooks, bound, update, ledger))
        values.append(float(ledger.sums[f"{loss.label}/loss"].value()))
        metrics.metrics.update(ledger.metrics)
    named = {name.removeprefix(f"{loss.label}/"): value for name, value in metrics.metrics.values_by_name().items()}
    return ReplayedLoss(loss, sum(values) / len(values) if values else math.nan, named, gradients)


def _of_micro_batches(hooks: Hooks, loss: BoundLoss, update: CapturedUpdate, ledger: Ledger) -> list[Gradient]:
    return [slopes_of(hooks, loss, piece, ledger) for piece in update.pieces]


def _of_whole_batch(hooks: Hooks, loss: BoundLoss, update: CapturedUpdate, ledger: Ledger) -> list[Gradient]:
    first = update.pieces[0]
    pieces = [Piece(_columns(piece), piece.inputs.metadata, piece.row_counts) for piece in update.pieces]
    rows, places = joined_rows(pieces, first.inputs, list(first.divergences), first.counts)
    slopes = slopes_of(hooks, loss, rows, ledger)
    return [_rows_of(slopes, of_piece, piece) for of_piece, piece in zip(places, update.pieces, strict=True)]


def _rows_of(slopes: Gradient, places: Sequence[int], piece: Rows) -> Gradient:
    rows, width = torch.tensor(places), piece.inputs.loss_mask.shape[1]
    return {name: joined([slope[rows]], name, width) for name, slope in slopes.items() if is_sensed(name)}


def _columns(piece: Rows) -> dict[Output, Tensor]:
    columns: dict[Any, Tensor] = {name: value for name, value in vars(piece.inputs).items() if isinstance(value, Tensor)}
    return {**columns, **piece.divergences}
