"""Promises about a metric's values: numbers, repeatable, of its inputs alone, and there for every kind of batch."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.metric import MetricInputs
from plugrad.errors import InputsChanged
from plugrad.host.trial import on_trial
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.inputs import metric_inputs, rollouts
from plugrad.testing.metrics.metric_trial import MetricTrial
from plugrad.testing.metrics.trial_shares import draw_batch
from plugrad.testing.numbers import are_same, compare_numbers
from plugrad.testing.state import check_state

LIMIT_S = 60.0


def _check_runs(metric: MetricTrial) -> str:
    try:
        numbers = metric.numbers(draw_batch())
    except InputsChanged:
        raise NotApplicable("it changes its inputs: see inputs_unchanged") from None
    for name, value in numbers.items():
        if not isfinite(value):
            raise Broken(f"of four ordinary groups {name} is {value}")
    return ", ".join(f"{name} {value:.3g}" for name, value in numbers.items()) or "nothing to report of an ordinary batch"


def _check_detached(metric: MetricTrial) -> str:
    with torch.no_grad():
        returned = metric.fresh().call(_view(metric, draw_batch()))
    attached = [name for name, value in returned.items() if _has_graph(value)]
    if attached:
        raise Broken(f"{', '.join(map(repr, attached))} carries a graph")
    return "numbers without a graph"


def _view(metric: MetricTrial, inputs: MetricInputs) -> MetricInputs:
    """Return the inputs with only what it asked for, as the host gives them."""
    fields = {"entropy", "old_logprobs", "ref_logprobs"} - metric.component.needs
    hidden: dict[str, Any] = dict.fromkeys(fields)
    return replace(inputs, **hidden)


def _has_graph(value: Any) -> bool:
    parts = [value] if isinstance(value, Tensor) else getattr(value, "__dict__", {}).values()
    return any(isinstance(part, Tensor) and part.requires_grad for part in parts)


def _check_replayed(metric: MetricTrial) -> str:
    inputs = draw_batch()
    groups = [[{**rollout, "inference_logprobs": None} for rollout in group] for group in inputs.rollouts]
    recorded: dict[str, Any] = {"rollouts": groups, "inference_logprobs": None}
    numbers = metric.numbers(replace(inputs, **recorded))
    return ", ".join(numbers) or "nothing to report of replayed completions"


def _check_one_rollout(metric: MetricTrial) -> str:
    inputs = metric_inputs(rollouts([[1.0]], lengths=[[1]], components=[[{"right": 1.0}]]))
    numbers = metric.numbers(inputs)
    return ", ".join(numbers) or "nothing to report of one rollout"


def _check_needs(metric: MetricTrial) -> str:
    needs = sorted(metric.component.needs)
    if not needs:
        raise NotApplicable("it asks for no optional field")
    inputs = draw_batch()
    whole = metric.numbers(inputs)
    for need in needs:
        other: dict[str, Any] = {need: getattr(inputs, need) - 0.5 * inputs.loss_mask}
        if are_same(metric.numbers(replace(inputs, **other)), whole):
            raise Broken(f"with another {need} its numbers are the same")
    return f"reads {', '.join(needs)}"


def _check_inputs_unchanged(metric: MetricTrial) -> str:
    inputs = draw_batch()
    try:
        with on_trial(str(metric.component), inputs, LIMIT_S):
            metric.numbers(inputs)
    except InputsChanged as error:
        raise Broken(str(error)) from error
    return "as they were"


def _check_deterministic(metric: MetricTrial) -> str:
    inputs = draw_batch()
    return compare_numbers(metric.numbers(inputs, seed=1), metric.numbers(inputs), "Called again on the same batch")


def _check_state(metric: MetricTrial) -> str:
    batches = (draw_batch(), draw_batch(seed=1))
    return check_state(
        metric.component,
        metric.fresh,
        lambda bound: bound.call,
        lambda bound, index: metric.numbers(batches[index], bound),
    )


RUNS: Promise[MetricTrial] = Promise(
    "runs",
    "it returns a mapping of names to finite numbers, 1-D tensors or measures",
    "A metric that raises is switched off, and its curve is missing.",
    'Return a dict such as {"mean": plugrad.Mean.over(values, inputs.loss_mask)}.',
    _check_runs,
)
VALUES: tuple[Promise[MetricTrial], ...] = (
    Promise(
        "replayed",
        "it works where completions were replayed and no engine sampled them",
        "In supervised fine-tuning inputs.inference_logprobs is None. A metric that fails there is switched off.",
        "Return {} where inputs.inference_logprobs is None, or what can be said without it.",
        _check_replayed,
    ),
    Promise(
        "one_rollout",
        "it works for a batch of one rollout with one token",
        "The last share of a small batch is as small; groups of one are common.",
        "Divide by no `n - 1`, take no standard deviation of one; leave a number out where there is nothing to say.",
        _check_one_rollout,
    ),
    Promise(
        "detached",
        "its numbers carry no graph",
        "A graph keeps what it was computed from in memory for as long as the number is kept.",
        "Switch gradients on for nothing; return values.detach().",
        _check_detached,
    ),
    Promise(
        "needs",
        "it reads every field that it asks for",
        "ref_logprobs and old_logprobs each cost a forward pass of a model, and memory.",
        "Remove the field from @metric(needs={...}), or make `needs` a function of the options that call for it.",
        _check_needs,
    ),
    Promise(
        "inputs_unchanged",
        "it leaves its inputs as they are, the rollouts too",
        "The other metrics are given the same tensors.",
        "Write `x = x + y` and not `x += y`; use functions without a trailing underscore; dict(rollout) for a rollout.",
        _check_inputs_unchanged,
    ),
    Promise(
        "deterministic",
        "the same batch gives the same numbers",
        "Two runs of one run file could not be compared, and a draw shifts every number that is drawn after it.",
        "Draw nothing at random, and read no clock.",
        _check_deterministic,
    ),
    Promise(
        "state",
        "what it has seen before does not matter, unless it declares state",
        "A number of several batches follows from how many ranks there are; state that nobody saves is lost with the run.",
        "Keep nothing in globals, in a default argument or on self. What must be kept belongs to a class with state_dict() "
        "and load_state_dict().",
        _check_state,
    ),
)
