"""Promises about a metric's values: finite, repeatable, determined by its inputs, and defined for every batch."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.metric import MetricInputs
from plugrad.errors import InputsChanged
from plugrad.host.synthetic import in_dtype, map_tensors
from plugrad.host.trial import on_trial
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.inputs import metric_inputs, rollouts
from plugrad.testing.metrics.metric_trial import MetricTrial
from plugrad.testing.metrics.trial_shares import draw_batch
from plugrad.testing.numbers import are_same, compare_numbers
from plugrad.testing.state import check_resumes, check_state, resumes_promise
from plugrad.testing.unread_needs import unread

LIMIT_S = 60.0
FAR = (100.0, -100.0, 1e3, -1e3, 1e4, -1e4)
NEAR = (1e-4, -1e-4, 1e-3, -1e-3)
"""Distances of the policy from the others, in nats."""
NO_DIGIT = 0.5


def _check_runs(metric: MetricTrial) -> str:
    try:
        numbers = metric.numbers(draw_batch())
    except InputsChanged:
        raise NotApplicable("it changes its inputs: see inputs_unchanged") from None
    for name, value in numbers.items():
        if not isfinite(value):
            raise Broken(f"for four ordinary groups {name} is {value}")
    return ", ".join(f"{name} {value:.3g}" for name, value in numbers.items()) or "no numbers for an ordinary batch"


def _check_detached(metric: MetricTrial) -> str:
    with torch.no_grad():
        returned = metric.fresh().call(_view(metric, draw_batch()))
    attached = [name for name, value in returned.items() if _has_graph(value)]
    if attached:
        raise Broken(f"{', '.join(map(repr, attached))} carry a graph")
    return "numbers without a graph"


def _view(metric: MetricTrial, inputs: MetricInputs) -> MetricInputs:
    """Return the inputs with only the fields that it needs, as the host passes them."""
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
    return ", ".join(numbers) or "no numbers for replayed completions"


def _check_one_rollout(metric: MetricTrial) -> str:
    inputs = metric_inputs(rollouts([[1.0]], lengths=[[1]], components=[[{"right": 1.0}]]))
    numbers = metric.numbers(inputs)
    return ", ".join(numbers) or "no numbers for one rollout"


def _check_large_ratios(metric: MetricTrial) -> str:
    for nats in FAR:
        numbers = metric.numbers(_apart(draw_batch(), nats))
        wrong = next((name for name, value in numbers.items() if not isfinite(value)), None)
        if wrong:
            raise Broken(f"with policies {abs(nats):g} nats apart, {wrong} is {numbers[wrong]} in float32")
    return f"finite with policies up to {max(FAR):g} nats apart"


def _check_small_differences(metric: MetricTrial) -> str:
    for nats in NEAR:
        inputs = _apart(draw_batch(), nats)
        found, expected = metric.numbers(inputs), metric.numbers(in_dtype(inputs, torch.double))
        for name, value in expected.items():
            if value and not abs(found.get(name, value) - value) <= NO_DIGIT * abs(value):
                raise Broken(
                    f"with policies {abs(nats):g} nats apart, {name} is {found[name]:.3g} in float32, but {value:.3g} in "
                    "float64"
                )
    return "as in float64"


def _apart(inputs: MetricInputs, nats: float) -> MetricInputs:
    """Return the inputs in float32, with the policy this many nats above the others."""
    # All of them below -0.5, where float32 still has a digit for the smallest distance.
    policy = torch.where(inputs.loss_mask, inputs.trainer_logprobs.clamp(max=-0.5) + min(nats, 0), 0.0)
    others = ("inference_logprobs", "old_logprobs", "ref_logprobs")

    def moved(name: str, value: Tensor) -> Tensor:
        if name == "trainer_logprobs":
            return policy.float()
        return torch.where(inputs.loss_mask, policy - nats, 0.0).float() if name in others else value

    return in_dtype(map_tensors(inputs, moved), torch.float32)


def _check_needs(metric: MetricTrial) -> str:
    needs = sorted(metric.component.needs)
    if not needs:
        raise NotApplicable("it needs no optional field")
    inputs = draw_batch()
    whole = metric.numbers(inputs)
    for need in needs:
        # Not a shift alone, which leaves a variance as it is.
        other: dict[str, Any] = {need: 0.8 * getattr(inputs, need) - 0.5 * inputs.loss_mask}
        if are_same(metric.numbers(replace(inputs, **other)), whole):
            raise unread(need, "the same numbers")
    return f"reads {', '.join(needs)}"


def _check_inputs_unchanged(metric: MetricTrial) -> str:
    inputs = draw_batch()
    try:
        with on_trial(str(metric.component), inputs, LIMIT_S):
            metric.numbers(inputs)
    except InputsChanged as error:
        raise Broken(str(error)) from error
    return "unchanged"


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


def _check_resumes(metric: MetricTrial) -> str:
    return check_resumes(
        metric.component,
        metric.fresh,
        lambda bound: bound.call,
        lambda bound, batch: metric.numbers(draw_batch(seed=batch), bound, seed=batch),
    )


RUNS: Promise[MetricTrial] = Promise(
    "runs",
    "it returns a mapping from names to finite numbers, 1-D tensors or measures",
    "A metric that raises is switched off, and its curve is missing.",
    'Return a dict such as {"mean": plugrad.Mean.over(values, inputs.loss_mask)}.',
    _check_runs,
)
DETERMINISTIC: Promise[MetricTrial] = Promise(
    "deterministic",
    "the same batch gives the same numbers",
    "Otherwise two runs of one run file cannot be compared. A draw also shifts every later one.",
    "Do not draw random numbers or read a clock.",
    _check_deterministic,
)
VALUES: tuple[Promise[MetricTrial], ...] = (
    Promise(
        "replayed",
        "it works with replayed completions, which no engine sampled",
        "In supervised fine-tuning inputs.inference_logprobs is None. A metric that fails is switched off.",
        "If inputs.inference_logprobs is None, return {} or what can be computed without it.",
        _check_replayed,
    ),
    Promise(
        "one_rollout",
        "it works for a batch of one rollout with one token",
        "A rank's last share of a small batch can be that small, and groups of one are common.",
        "Do not divide by `n - 1` or take a standard deviation of one value. Leave out a number that is undefined.",
        _check_one_rollout,
    ),
    Promise(
        "large_ratios",
        "it stays finite where policies are far apart",
        "One stale or corrupt token is enough: exp(89) is infinite in float32, and the curve of the step is lost.",
        "Use plugrad.finite_exp(log_ratio) instead of log_ratio.exp(): it equals exp up to 34 nats.",
        _check_large_ratios,
    ),
    Promise(
        "small_differences",
        "it is as exact where policies hardly differ as elsewhere",
        "exp(d) - d - 1 has no correct digit near d = 1e-4 in float32, and is often negative.",
        "Use plugrad.k3(d) for exp(d) - d - 1, and torch.expm1(d) for exp(d) - 1.",
        _check_small_differences,
    ),
    Promise(
        "detached",
        "its numbers carry no graph",
        "A graph keeps everything that the number was computed from in memory.",
        "Do not enable gradients, and return values.detach().",
        _check_detached,
    ),
    Promise(
        "needs",
        "it reads every field that it needs",
        "Most of these fields cost a forward pass or memory. One that is not read is a slip, in the declaration or "
        "in the code.",
        "Remove the field from @metric(needs={...}), or make `needs` a function of the options that require it.",
        _check_needs,
    ),
    Promise(
        "inputs_unchanged",
        "it does not change its inputs, rollouts included",
        "The other metrics receive the same tensors.",
        "Write `x = x + y`, not `x += y`. Avoid functions with a trailing underscore. Copy a rollout with dict(rollout).",
        _check_inputs_unchanged,
    ),
    Promise(
        "state",
        "earlier calls do not matter, unless it declares state",
        "How many batches a rank sees depends on the number of ranks. State that is not saved is lost with the run.",
        "Keep nothing in globals, default arguments or on self. Put state into a class with state_dict() and "
        "load_state_dict().",
        _check_state,
    ),
    resumes_promise(_check_resumes),
)
