"""The promise that the loss of a sequence is a sum over its tokens, which the reductions expect."""

from __future__ import annotations

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.cuts import skip_if_it_mixes
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, on_policy, repeated

NEGLIGIBLE = 1e-9
ONCE = 1e-6
"""A value that changes by less than this share does not grow with the tokens."""


def _check_sums_tokens(loss: LossTrial) -> str:
    _skip_if_not_a_sum(loss)
    inputs = draw_micro_batch()
    before, after = _of_sequences(loss, inputs), _of_sequences(loss, repeated(inputs))
    counted = before.abs() > NEGLIGIBLE
    if not bool(counted.any()):
        raise NotApplicable("its value and gradient are zero")
    growth = (after / before)[counted]
    if bool((growth - 1).abs().max() < ONCE):
        row, place = counted.nonzero().tolist()[0]
        what = ("value", "gradient")[place]
        raise Broken(
            f"with the {LENGTHS[row]} tokens of sequence {row} twice, one after the other, its {what} stays "
            f"{before[row, place]:.6g}: a mean stays where a sum doubles"
        )
    _require_no_division_by_length(loss, on_policy(inputs))
    low, high = float(growth.min()), float(growth.max())
    return f"with every token twice: x {low:.3g}" + (f" to {high:.3g}" if high - low > ONCE else "")


def _require_no_division_by_length(loss: LossTrial, inputs: BatchLossInputs) -> None:
    """Raise Broken if every token of every sequence pulls less where the sequence is longer.

    On policy, so that no ratio of whole sequences shrinks with the tokens. Weights that fall from token to token, or from
    the end, leave one of the two copies of a token as it was.
    """
    _, before = loss.values_and_gradients(inputs)
    _, after = loss.values_and_gradients(repeated(inputs))
    shares: list[tuple[int, float, float]] = []
    for row, (mask, twice) in enumerate(zip(inputs.loss_mask, repeated(inputs).loss_mask, strict=True)):
        one = torch.stack([gradient[row][mask] for gradient in before])
        two = torch.stack([gradient[row][twice] for gradient in after])
        pulls = torch.cat([one, one], dim=1)
        counted = pulls.abs() > NEGLIGIBLE
        if bool(counted.any()):
            share = (two / pulls)[counted]
            shares.append((row, float(share.min()), float(share.max())))
    if shares and all(high - low < ONCE and high < 1 - ONCE for _, low, high in shares):
        row, of_gradient, _ = shares[0]
        raise Broken(
            f"with the {LENGTHS[row]} tokens of sequence {row} twice, one after the other, each of them has "
            f"{of_gradient:.3g} of its gradient: the loss is divided by something that grows with the length"
        )


def _of_sequences(loss: LossTrial, inputs: BatchLossInputs) -> Tensor:
    """Return the value of each sequence and the sum of its gradient, `[batch, 2]`."""
    values, (gradient, _) = loss.values_and_gradients(inputs)
    return torch.stack([values, gradient.sum(dim=1)], dim=1)


def _skip_if_not_a_sum(loss: LossTrial) -> None:
    skip_if_it_mixes(loss)
    if loss.facts.reduction == "sequence_sum":
        raise NotApplicable("with the reduction 'sequence_sum', each sequence may count once")
    if not loss.facts.sums_tokens:
        raise NotApplicable("it declares sums_tokens=False")


SUMS: tuple[Promise[LossTrial], ...] = (
    Promise(
        "sums_tokens",
        "the loss of a sequence is a sum over its tokens, not a mean, and divided by no length",
        "The reduction divides by the counted tokens, once and for the whole batch. A mean is divided twice: the gradient "
        "is too small, and long sequences count less than short ones.",
        "Return the values per token, or their sum: (per_token * inputs.loss_mask).sum(-1). For a mean per sequence, choose "
        'reduction="sequence". A loss that is a value of the whole sequence on purpose declares @loss(sums_tokens=False).',
        _check_sums_tokens,
        after=("padding", "micro_batches"),
    ),
)
