"""Hold on to what the losses of a step see, so that it can be written down if something fails, or if it was asked for.

Nothing is copied: these are references to tensors that the update holds anyway, and they go when the update ends. What takes
much memory and is freed sooner, as hidden states are, is let go as soon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.contracts.rollout import Rollout
from plugrad.host.loss import BoundLoss
from plugrad.host.plugin_state import state_of
from plugrad.trainer.update.run_progress import Progress
from plugrad.trainer.update.weighted_losses import Rows

NEVER_KEPT = ("logits", "teacher_logits", "again", "sensitivity")
FREED_SOON = ("hidden_states", "embedding", "parameters")


@dataclass
class WatchedUpdate:
    """What the losses saw of one update."""

    progress: Progress
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of losses that keep one, by their labels, before the update."""
    seen: list[Rows] = field(default_factory=list)
    """Of each micro-batch, detached."""


class Watch:
    """Watches the advantage and the losses of one step."""

    def __init__(self, *, keeps_all: bool = False) -> None:
        """Start with nothing.

        Args:
            keeps_all: keep every update of the step, and what an update frees before its end.
        """
        self.keeps_all = keeps_all
        self.updates: list[WatchedUpdate] = []
        self.in_hand: Rows | None = None
        """What the losses are called with, or were when one failed."""
        self.calling: str | None = None
        """The label of the loss that is being called, or was when it failed."""
        self.losses: Sequence[BoundLoss] = ()
        self.groups: Sequence[Sequence[Rollout]] = ()
        """This rank's rollouts."""
        self.first_group = 0
        """The index of the first of them over all ranks."""
        self.given: AdvantageInputs | None = None
        """What the advantage is called with, or was when it failed: the rollouts of all ranks."""

    @contextmanager
    def advantage(self, given: AdvantageInputs, groups: Sequence[Sequence[Rollout]], first_group: int) -> Iterator[None]:
        """Watch the call of the advantage, with the extensions around it."""
        self.groups, self.first_group, self.given = groups, first_group, given
        yield
        self.given = None

    def begin(self, losses: Sequence[BoundLoss], progress: Progress) -> None:
        """Begin an update."""
        self.losses = losses
        if not self.keeps_all:
            self.updates.clear()
        self.updates.append(WatchedUpdate(progress, states_of(losses) if self.keeps_all else {}))

    @contextmanager
    def passing(self, rows: Rows, *, is_micro_batch: bool = True) -> Iterator[None]:
        """Watch losses, and the gradient of what they return, on some rows; rows that fail stay in hand."""
        self.in_hand = rows
        yield
        self.in_hand = None
        if is_micro_batch and rows.all_count and self.updates:
            without = NEVER_KEPT if self.keeps_all else (*NEVER_KEPT, *FREED_SOON)
            self.updates[-1].seen.append(_detached(rows, without))

    def seen_last(self) -> list[Rows]:
        """Return what the losses of the last update saw: the rows in hand, or all if none are. Detached."""
        if self.in_hand is not None:
            return [_detached(self.in_hand, NEVER_KEPT)]
        return list(self.updates[-1].seen) if self.updates else []

    @contextmanager
    def call(self, loss: BoundLoss) -> Iterator[None]:
        """Watch a call of one loss."""
        self.calling = loss.label
        yield
        self.calling = None

    def clear(self) -> None:
        """Let everything go."""
        self.updates.clear()
        self.in_hand, self.calling, self.given, self.groups = None, None, None, ()


def states_of(losses: Sequence[BoundLoss]) -> dict[str, dict[str, Any]]:
    """Return copies of the states of those losses that keep one, by their labels.

    Raises:
        ContractError: a loss cannot give its state.
    """
    found = {loss.label: state_of(loss.component, loss.instance) for loss in losses}
    return {label: state for label, state in found.items() if state}


def _detached(rows: Rows, without: Sequence[str]) -> Rows:
    inputs = rows.inputs
    kept: dict[str, Any] = {name: value.detach() for name, value in vars(inputs).items() if isinstance(value, Tensor)}
    if inputs.parameters is not None:
        kept["parameters"] = {name: value.detach() for name, value in inputs.parameters.items()}
    divergences = {of: value.detach() for of, value in rows.divergences.items()}
    # They were checked when they were made, which takes longer than all of this.
    detached = object.__new__(type(inputs))
    detached.__dict__.update({**vars(inputs), **kept, **dict.fromkeys(without)})
    return replace(rows, inputs=detached, divergences=divergences)
