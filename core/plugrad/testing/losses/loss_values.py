"""Promises about a loss's values: finite, repeatable, and determined by its inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.errors import InputsChanged
from plugrad.host.made_up import with_made_up_outputs
from plugrad.host.made_up_passes import STRENGTH, MadeUpPasses
from plugrad.host.own_parameters import check_graph_ends_at_inputs
from plugrad.host.trial import on_trial
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.loss_trial import LossTrial, compare_rows, view
from plugrad.testing.losses.ordinary import IN_RUNS, not_finite
from plugrad.testing.losses.trial_micro_batches import draw_micro_batch
from plugrad.testing.unread_needs import unread

LIMIT_S = 60.0


def _check_runs(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    try:
        values, gradients = loss.values_and_gradients(inputs)
        _check_owns_no_parameters(loss, inputs)
        for dtype in IN_RUNS:
            failure = not_finite(loss, dtype)
            if failure:
                raise Broken(failure.seen, fix=failure.fix)
    except InputsChanged:
        raise NotApplicable("it changes its inputs: see inputs_unchanged") from None
    if not any(bool(gradient.any()) for gradient in gradients):
        raise Broken("the gradient with respect to every log-prob and entropy is zero")
    return f"losses from {values.min():.3g} to {values.max():.3g}"


def _check_owns_no_parameters(loss: LossTrial, inputs: BatchLossInputs) -> None:
    bound = loss.fresh()
    leaf = inputs.trainer_logprobs.clone().requires_grad_()
    seen = view(bound, replace(inputs, trainer_logprobs=leaf))
    outputs = loss.outputs(seen, bound)
    check_graph_ends_at_inputs(str(loss.component), bound.instance, outputs.loss, seen)


def _check_inputs_unchanged(loss: LossTrial) -> str:
    inputs = draw_micro_batch()
    try:
        with on_trial(str(loss.component), inputs, LIMIT_S):
            loss.outputs(inputs)
    except InputsChanged as error:
        raise Broken(str(error)) from error
    return "unchanged"


def _check_deterministic(loss: LossTrial) -> str:
    inputs, draws = draw_micro_batch(), loss.facts.mixes_sequences
    # A different seed exposes a loss that draws. One that mixes sequences may draw.
    again = loss.rows(inputs, seed=0 if draws else 1)
    seen = compare_rows(again, loss.rows(inputs), "Called again on the same batch")
    return f"{seen}, from the same seed" if draws else seen


def _check_needs(loss: LossTrial) -> str:
    needs = sorted(loss.component.needs)
    if not needs:
        raise NotApplicable("it needs no optional field")
    inputs = with_made_up_outputs(draw_micro_batch(), needs)
    whole = _everything(loss, inputs)
    for need in needs:
        other: dict[str, Any] = {need: _other(inputs, need)}
        if _everything(loss, replace(inputs, **other)) == whole:
            raise unread(need, "the same value, gradient and metrics")
    return f"reads {', '.join(needs)}"


def _other(inputs: BatchLossInputs, need: str) -> Any:
    if need == "again":
        return MadeUpPasses(inputs, strength=2 * STRENGTH).again
    return _shifted(getattr(inputs, need), inputs.loss_mask)


def _shifted(value: Tensor, mask: Tensor) -> Tensor:
    """Return other numbers: each token moves by up to half a unit, and rewards are in the opposite order."""
    if value.ndim == 1 and value.is_floating_point():
        return 1 - value
    steps = torch.arange(value.numel()).reshape(value.shape) % 5
    if not value.is_floating_point():
        return value + steps
    return value + (steps.to(value.dtype) - 2) / 4 * (mask if value.shape == mask.shape else 1)


def _everything(loss: LossTrial, inputs: BatchLossInputs) -> Any:
    return loss.rows(inputs), {name: repr(measure.value()) for name, measure in loss.measures(inputs).items()}


RUNS: Promise[LossTrial] = Promise(
    "runs",
    "on ordinary log-probs and advantages its value and gradient are finite, and the gradient is not zero",
    "A single value that is not finite turns the whole policy into NaN at the next update.",
    "Compute from inputs.trainer_logprobs (or inputs.entropy) without detach(). Look for a division by zero, log(0), or "
    "torch.where over a branch that is not finite: its gradient is NaN there too.",
    _check_runs,
)
DETERMINISTIC: Promise[LossTrial] = Promise(
    "deterministic",
    "the same batch gives the same values",
    "Otherwise no run can be repeated, and ranks or micro-batches differ by chance.",
    "Do not draw random numbers or read a clock. A loss that must sample from the batch declares "
    "@loss(whole_batch=True) and draws with torch's generator, which the run seeds.",
    _check_deterministic,
)
VALUES: tuple[Promise[LossTrial], ...] = (
    Promise(
        "inputs_unchanged",
        "it does not change its inputs",
        "Other losses and metrics receive the same tensors, and the gradient would be that of changed numbers.",
        "Write `x = x + y`, not `x += y`. Avoid functions with a trailing underscore, or work on x.clone().",
        _check_inputs_unchanged,
    ),
    Promise(
        "needs",
        "it reads every field that it needs",
        "Most of these fields cost a forward pass or memory. One that is not read is a slip, in the declaration or "
        "in the code.",
        "Remove the field from @loss(needs={...}), or make `needs` a function of the options that require it.",
        _check_needs,
    ),
)
