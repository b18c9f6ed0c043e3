"""The promise about sequences that an extension emptied: they contribute nothing and leave the others unchanged."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch

from plugrad.contracts.loss import BatchLossInputs
from plugrad.hookspecs import hookimpl
from plugrad.host.loss import sum_rows, without_empty_rows
from plugrad.host.trial import random_state_of
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.hosting import hooks_around
from plugrad.testing.losses.cuts import skip_if_it_mixes
from plugrad.testing.losses.loss_trial import LossTrial, gradients_of, view
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, rows_of
from plugrad.testing.numbers import compare_numbers

DROPPED = (1, 4)
KEPT = tuple(row for row in range(len(LENGTHS)) if row not in DROPPED)


@dataclass(frozen=True)
class _Drop:
    """An extension that masks every token of some rows."""

    rows: tuple[int, ...]

    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs: BatchLossInputs) -> Generator[None, BatchLossInputs, BatchLossInputs]:
        prepared = yield
        dropped = torch.isin(torch.arange(len(LENGTHS)), torch.tensor(self.rows)).unsqueeze(1)
        return replace(prepared, loss_mask=prepared.loss_mask & ~dropped)


def _check_emptied_rows(loss: LossTrial) -> str:
    skip_if_it_mixes(loss)
    inputs, bound, hooks = draw_micro_batch(), loss.fresh(), hooks_around(_Drop(DROPPED))
    leaf = inputs.trainer_logprobs.clone().requires_grad_()
    prepared, kept = without_empty_rows(hooks.prepare_loss(bound, view(bound, replace(inputs, trainer_logprobs=leaf))))
    assert prepared is not None
    with random_state_of(0):
        sums = sum_rows(hooks.compute_loss(bound, prepared), prepared.loss_mask)
    (gradient,) = gradients_of(sums.sum(), [leaf])
    if bool(gradient[~kept].any()):
        raise Broken("emptied sequences have a gradient")
    alone = loss.rows(rows_of(inputs, KEPT))
    names = [f"the loss of sequence {row}" for row in KEPT]
    compare_numbers(
        dict(zip(names, sums.tolist(), strict=True)),
        dict(zip(names, [row.value for row in alone], strict=True)),
        "With two other sequences emptied instead of left out",
    )
    return f"{len(DROPPED)} of {len(LENGTHS)} contribute nothing; the others are unchanged"


EMPTIED: tuple[Promise[LossTrial], ...] = (
    Promise(
        "emptied_rows",
        "sequences that an extension emptied contribute nothing and leave the others unchanged",
        "An extension that drops sequences over a trainer-engine mismatch must not change what the rest teaches.",
        "Read the counted tokens from inputs.loss_mask at every call. Keep no count from an earlier call.",
        _check_emptied_rows,
        after=("micro_batches",),
    ),
)
