"""Promises about the parameters that a loss trains: each learns, and none is changed by a call."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from plugrad.host.loss import BoundLoss, sum_rows
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.cuts import CUTS
from plugrad.testing.losses.loss_trial import LossTrial, gradients_of, made_parameters
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, rows_of
from plugrad.testing.numbers import compare_numbers, is_finite

SEEDS = range(4)
"""Of batches: a parameter may be for some of them alone."""


def _check_parameters(loss: LossTrial) -> str:
    bound, parameters = _parameters(loss)
    silent = {name for name, parameter in parameters.items() if parameter.requires_grad}
    for seed in SEEDS:
        gradients = _gradients(loss, bound, parameters, seed)
        for name, gradient in gradients.items():
            if not is_finite(gradient):
                raise Broken(f"the gradient with respect to inputs.parameters[{name!r}] is not finite")
        silent -= {name for name, gradient in gradients.items() if bool(gradient.any())}
    if silent:
        raise Broken(f"the gradient with respect to inputs.parameters[{min(silent)!r}] is zero in every batch")
    return f"{', '.join(parameters)} learn"


def _check_parameters_over_cuts(loss: LossTrial) -> str:
    if loss.facts.mixes_sequences:
        raise NotApplicable("it mixes sequences")
    bound, parameters = _parameters(loss)
    whole, seen = _numbers(_gradients(loss, bound, parameters, 0)), ""
    for sizes in CUTS:
        parts = torch.arange(len(LENGTHS)).split(list(sizes))
        found = [_gradients(loss, bound, parameters, 0, part.tolist()) for part in parts]
        added = {name: torch.stack([gradients[name] for gradients in found]).sum(dim=0) for name in found[0]}
        seen = compare_numbers(_numbers(added), whole, f"Cut into micro-batches of {', '.join(map(str, sizes))}")
    return seen


def _parameters(loss: LossTrial) -> tuple[BoundLoss, dict[str, Tensor]]:
    bound = loss.fresh()
    if not bound.trains:
        raise NotApplicable("it has no method `trained`")
    return bound, made_parameters(bound, torch.double)


def _gradients(
    loss: LossTrial, bound: BoundLoss, parameters: dict[str, Tensor], seed: int, rows: list[int] | None = None
) -> dict[str, Tensor]:
    inputs = draw_micro_batch(seed=seed)
    inputs = replace(inputs if rows is None else rows_of(inputs, rows), parameters=parameters)
    total = sum_rows(loss.outputs(inputs, bound), inputs.loss_mask).sum()
    learned = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    found = gradients_of(total, list(learned.values()), str(loss.component))
    return dict(zip(learned, found, strict=True))


def _numbers(gradients: dict[str, Tensor]) -> dict[str, float]:
    return {
        f"the gradient of inputs.parameters[{name!r}] at {place}": value
        for name, gradient in gradients.items()
        for place, value in enumerate(gradient.flatten().tolist())
    }


OWN_PARAMETERS: tuple[Promise[LossTrial], ...] = (
    Promise(
        "parameters",
        "each of its own parameters gets a gradient",
        "A parameter without a gradient keeps its starting value for ever, and nobody notices.",
        "Read every parameter from inputs.parameters, without detach(). Freeze those that are fixed: requires_grad_(False).",
        _check_parameters,
        after=("runs",),
    ),
    Promise(
        "parameters_over_cuts",
        "its own parameters get the same gradient however the batch is cut",
        "They are shared by all sequences, so that a mean over a micro-batch would show here too.",
        "Return a loss per token or per sequence that reads parameters and its own sequence alone. A term of the parameters "
        "themselves belongs to every token or to every sequence.",
        _check_parameters_over_cuts,
        after=("runs", "micro_batches"),
    ),
)
