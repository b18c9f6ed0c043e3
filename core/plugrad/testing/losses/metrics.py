"""Promises about the metrics that a loss returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs, LossInputs, LossOutputs
from plugrad.contracts.measures import Measures, as_measure
from plugrad.host.calling import call_plugin
from plugrad.host.sequence_adapter import SEQUENCE_FIELDS
from plugrad.host.trial import random_state_of
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.kept_graphs import graphs_in
from plugrad.testing.losses.cuts import CUTS, skip_if_it_mixes
from plugrad.testing.losses.loss_trial import LossTrial, view
from plugrad.testing.losses.trial_micro_batches import (
    LENGTHS,
    draw_micro_batch,
    padded,
    rows_of,
    with_longer_prompts,
    with_row_advantages,
)
from plugrad.testing.numbers import compare_numbers, is_finite_measure


def _check_metrics(loss: LossTrial) -> str:
    metrics = _own_metrics(loss, draw_micro_batch())
    for name, value in ((name, value) for name, value in metrics.items() if value is not None):
        try:
            as_measure(value, num_sequences=1)
        except TypeError as error:
            raise Broken(f"{name!r}: {error}") from error
    _check_means(loss)
    attached = [name for name, value in metrics.items() if any(graphs_in(value, name))]
    if attached:
        raise Broken(f"{', '.join(map(repr, attached))} still carries the graph of the loss")
    return ", ".join(metrics) or "none"


def _check_means(loss: LossTrial) -> None:
    """Raise Broken if a metric is NaN although something was counted."""
    praise = [1.0] * len(LENGTHS)
    blame = [-1.0] * len(LENGTHS)
    one_of_them = [-1.0, *praise[1:]]
    for rows in (praise, blame, one_of_them):
        for name, measure in loss.measures(with_row_advantages(draw_micro_batch(), rows)).items():
            if not is_finite_measure(measure):
                advantages = ", ".join(f"{row:g}" for row in rows)
                raise Broken(
                    f"{name!r} is {measure.value():g} if the sequences have the advantages {advantages}",
                    why="One number that is not finite makes the curve of the whole step so.",
                    fix="The mean of no token is NaN. Return plugrad.Mean.over(values, inputs.loss_mask & chosen), which "
                    "counts what it has.",
                )


def _own_metrics(loss: LossTrial, inputs: BatchLossInputs) -> Mapping[str, Any]:
    """Return the loss's own metrics, before the host joins sequences and detaches."""
    bound = loss.fresh()
    seen = view(bound, replace(inputs, trainer_logprobs=inputs.trainer_logprobs.clone().requires_grad_()))
    given = _first_row(seen) if loss.component.form == "sequence" else seen
    with random_state_of(0):
        returned = call_plugin(str(loss.component), bound.instance, given)
    return returned.metrics if isinstance(returned, LossOutputs) else {}


def _first_row(inputs: BatchLossInputs) -> LossInputs:
    columns = {name: getattr(inputs, name) for name in SEQUENCE_FIELDS}
    row: dict[str, Any] = {name: value[0] if isinstance(value, Tensor | list) else value for name, value in columns.items()}
    return LossInputs(**row)


def _check_metrics_add_up(loss: LossTrial) -> str:
    skip_if_it_mixes(loss)
    inputs = draw_micro_batch()
    whole = _measured(loss, [inputs])
    if not whole:
        raise NotApplicable("it has no metrics")
    for sizes in CUTS:
        parts = [rows_of(inputs, rows.tolist()) for rows in torch.arange(len(inputs.loss_mask)).split(list(sizes))]
        change = f"Added up over micro-batches of {', '.join(map(str, sizes))}"
        compare_numbers(_measured(loss, parts), whole, change)
    for change, other in (("more columns of padding", padded), ("more tokens in each prompt", with_longer_prompts)):
        compare_numbers(_measured(loss, [other(inputs, 5)]), whole, f"With five {change}")
    return ", ".join(whole)


def _measured(loss: LossTrial, parts: Sequence[BatchLossInputs]) -> dict[str, float]:
    measures = Measures()
    for part in parts:
        for name, measure in loss.measures(part).items():
            try:
                measures.add(name, measure)
            except TypeError as error:
                raise Broken(
                    f"from one micro-batch to the next, {error}",
                    why="Numbers of two kinds do not add up, so a run stops at the second micro-batch.",
                    fix="Return the same kind of measure at every call.",
                ) from error
    return {repr(name): value for name, value in measures.values_by_name().items()}


METRICS: tuple[Promise[LossTrial], ...] = (
    Promise(
        "metrics",
        "its metrics are finite, detached numbers, scalars, 1-D tensors or measures",
        "A metric with a graph keeps the activations of a whole forward pass in memory. Other shapes cannot be added up.",
        "Use plugrad.Mean.over(values, inputs.loss_mask), which detaches, or values.detach().",
        _check_metrics,
    ),
    Promise(
        "metrics_add_up",
        "its metrics depend neither on the cut nor on prompt and padding",
        "A mean of means weighs a token by the micro-batch it is in, and one over masked slots counts what was never "
        "sampled, so the curves of two runs cannot be compared.",
        "Return plugrad.Mean.over(values, inputs.loss_mask), which keeps total and count apart. Use Sum, Min or Max if you "
        "mean that.",
        _check_metrics_add_up,
        after=("micro_batches", "metrics"),
    ),
)
