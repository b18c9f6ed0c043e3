"""The tokens to which a loss denies the gradient that their advantage asks for: clipped ones, and those that it masks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from plugrad.replay.replaying import ReplayedLoss
from plugrad.trainer.capture.capture_files import Capture
from plugrad.trainer.update.weighted_losses import Rows


def clipped_tokens(capture: Capture, replayed: ReplayedLoss) -> list[list[Tensor]]:
    """Return, by update and micro-batch, where a loss clips or masks a token `[batch, seq]`.

    Only a loss that follows advantages does. A loss that declares nothing follows them if each of its gradients pushes its
    token as the token's advantage asks. The rows that its `where` leaves out are not clipped: it never sees them.
    """
    nowhere = [[torch.zeros_like(piece.inputs.loss_mask) for piece in update.pieces] for update in capture.updates]
    declared = replayed.loss.facts.policy_gradient
    if declared is False or (declared is None and not _follows_advantages(capture, replayed)):
        return nowhere
    found = (
        _counted(replayed, piece) & (gradient == 0) & (piece.inputs.advantages != 0)
        for piece, gradient in _gradients(capture, replayed)
    )
    return [[next(found) for _ in update.pieces] for update in capture.updates]


def _follows_advantages(capture: Capture, replayed: ReplayedLoss) -> bool:
    """Return whether some token is pushed, and each as its advantage asks."""
    sign = -1 if replayed.loss.weight > 0 else 1
    is_pushed = False
    for piece, gradient in _gradients(capture, replayed):
        pushed = _counted(replayed, piece) & (gradient != 0)
        is_pushed |= bool(pushed.any())
        if bool((gradient.sign() != sign * piece.inputs.advantages.sign())[pushed].any()):
            return False
    return is_pushed


def _gradients(capture: Capture, replayed: ReplayedLoss) -> Iterator[tuple[Rows, Tensor]]:
    for number, update in enumerate(capture.updates):
        for place, piece in enumerate(update.pieces):
            yield piece, replayed.of_logprobs(number, place, piece.inputs.trainer_logprobs)


def _counted(replayed: ReplayedLoss, piece: Rows) -> Tensor:
    where, mask = replayed.loss.where, piece.inputs.loss_mask
    if where is None:
        return mask
    return mask & torch.tensor([where.holds(example) for example in piece.inputs.metadata or []])[:, None]
