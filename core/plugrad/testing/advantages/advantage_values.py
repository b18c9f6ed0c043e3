"""Promises about an advantage's values: finite, repeatable, and determined by its inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from plugrad.contracts.advantage import AdvantageOutputs
from plugrad.errors import InputsChanged, OptionError
from plugrad.host.trial import on_trial
from plugrad.testing.advantages.advantage_trial import AdvantageTrial, as_groups, named
from plugrad.testing.advantages.trial_groups import draw_groups, in_single_precision
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.numbers import are_same, compare_numbers
from plugrad.testing.state import check_resumes, check_state, resumes_promise
from plugrad.testing.unread_needs import unread

LIMIT_S = 60.0
SINGLE_PRECISION = 1e-3
ALL_ONE, EQUAL = (1,), (5,)
VERY_UNEQUAL = (1, 300, 2, 1, 40, 1, 7, 1000, 1, 1, 1, 2, 500)


def _check_runs(advantage: AdvantageTrial) -> str:
    try:
        outputs = advantage.outputs(advantage.draw())
    except InputsChanged:
        raise NotApplicable("it changes its inputs: see inputs_unchanged") from None
    values = named(as_groups(outputs)).values()
    form = "one per rollout" if isinstance(outputs.advantages, Tensor) else "one per token"
    return f"{form}, {min(values):.3g} to {max(values):.3g}"


def _check_inputs_unchanged(advantage: AdvantageTrial) -> str:
    inputs = advantage.draw()
    try:
        with on_trial(str(advantage.component), inputs, LIMIT_S):
            advantage.outputs(inputs)
    except InputsChanged as error:
        raise Broken(str(error)) from error
    return "unchanged"


def _check_deterministic(advantage: AdvantageTrial) -> str:
    inputs = advantage.draw()
    again = advantage.numbers(inputs, seed=1)
    return compare_numbers(again, advantage.numbers(inputs), "Called again on the same batch")


def _check_state(advantage: AdvantageTrial) -> str:
    batches = (advantage.draw(), advantage.draw(seed=1))
    return check_state(
        advantage.component,
        advantage.fresh,
        lambda bound: bound.call,
        lambda bound, index: advantage.numbers(batches[index], bound),
    )


def _check_resumes(advantage: AdvantageTrial) -> str:
    return check_resumes(
        advantage.component,
        advantage.fresh,
        lambda bound: bound.call,
        lambda bound, batch: advantage.numbers(advantage.draw(seed=batch), bound, seed=batch),
    )


def _check_lengths(advantage: AdvantageTrial) -> str:
    numbers = [advantage.groups(advantage.draw(lengths=lengths)) for lengths in (ALL_ONE, VERY_UNEQUAL)]
    equal = advantage.groups(advantage.draw(lengths=EQUAL))
    first_tokens = [named([[tokens[:1] for tokens in group] for group in groups]) for groups in (*numbers, equal)]
    if all(are_same(found, first_tokens[0]) for found in first_tokens):
        return "1 to 1000 tokens; lengths change nothing"
    return "1 to 1000 tokens; lengths matter"


def _check_fewest_rollouts(advantage: AdvantageTrial) -> str:
    fewest = advantage.facts.min_rollouts_per_example
    try:
        advantage.outputs(draw_groups(num_rollouts=fewest))
    except OptionError as error:
        return f"{fewest} are too few with these options: {error}"
    return f"{fewest} rollout{'s' if fewest > 1 else ''} per example are enough"


def _check_single_precision(advantage: AdvantageTrial) -> str:
    inputs = advantage.draw()
    found = advantage.numbers(in_single_precision(inputs))
    seen = compare_numbers(found, advantage.numbers(inputs), "With rewards in float32", SINGLE_PRECISION)
    return f"{seen} from float64"


def _check_needs(advantage: AdvantageTrial) -> str:
    needs = sorted(advantage.component.needs)
    if not needs:
        raise NotApplicable("it needs no optional field")
    inputs = advantage.draw()
    whole = advantage.outputs(inputs)
    for need in needs:
        given = getattr(inputs, need)
        value = 1 - given if isinstance(given, Tensor) else [[_shifted(tokens) for tokens in group] for group in given]
        other: dict[str, Any] = {need: value}
        if _same_outputs(advantage.outputs(replace(inputs, **other)), whole):
            raise unread(need, "the same values")
    return f"reads {', '.join(needs)}"


def _shifted(tokens: Tensor) -> Tensor:
    """Return other numbers, which move by different steps."""
    return tokens - 0.5 - 0.1 * torch.arange(len(tokens))


def _same_outputs(one: AdvantageOutputs, other: AdvantageOutputs) -> bool:
    return are_same(named(as_groups(one)), named(as_groups(other))) and _returns(one) == _returns(other)


def _returns(outputs: AdvantageOutputs) -> list[list[list[float]]]:
    return [[tokens.tolist() for tokens in group] for group in outputs.returns or []]


RUNS: Promise[AdvantageTrial] = Promise(
    "runs",
    "it returns one finite number per rollout or per completion token",
    "Anything else stops the run. A NaN would turn the whole policy into NaN.",
    "Return plugrad.AdvantageOutputs(...) with a tensor shaped like inputs.rewards, or with one tensor per rollout, as "
    "long as its entry in inputs.completion_lengths.",
    _check_runs,
)
DETERMINISTIC: Promise[AdvantageTrial] = Promise(
    "deterministic",
    "the same batch gives the same advantages",
    "Every rank computes them on its own. With randomness, ranks train on different advantages, and no run can be repeated.",
    "Do not draw random numbers or read a clock. Sort a set before you iterate over it.",
    _check_deterministic,
)
VALUES: tuple[Promise[AdvantageTrial], ...] = (
    Promise(
        "lengths",
        "it works with one-token completions and with very unequal lengths",
        "A policy that has just learned to stop ends at once; another never does.",
        "Do not divide by `length - 1`. Per token, return a tensor as long as each completion. The check reports whether "
        "lengths matter.",
        _check_lengths,
    ),
    Promise(
        "single_precision",
        "rewards in float32 give the same advantages to three digits",
        "plugrad passes float64 rewards. Other training loops pass float32.",
        "Create tensors with inputs.rewards.new_tensor(...), torch.ones_like or .to(inputs.rewards). Do not hard-code a "
        "dtype.",
        _check_single_precision,
    ),
    Promise(
        "needs",
        "it reads every field that it needs",
        "Most of these fields cost a forward pass or a completion. One that is not read is a slip, in the declaration or "
        "in the code.",
        "Remove the field from @advantage(needs={...}), or make `needs` a function of the options that require it.",
        _check_needs,
    ),
    Promise(
        "inputs_unchanged",
        "it does not change its inputs, rollouts included",
        "Extensions and metrics receive the same rewards and rollouts.",
        "Write `x = x - y`, not `x -= y`. Avoid functions with a trailing underscore. Copy a rollout with dict(rollout).",
        _check_inputs_unchanged,
    ),
    Promise(
        "state",
        "earlier calls do not matter, unless it declares state",
        "State that is not saved is lost with the run.",
        "Keep nothing in globals, default arguments or on self. Put state into a class with state_dict() and "
        "load_state_dict().",
        _check_state,
    ),
    resumes_promise(_check_resumes),
)
FEWEST_ROLLOUTS: Promise[AdvantageTrial] = Promise(
    "fewest_rollouts",
    "it works with the fewest rollouts per example that it declares",
    "The number is checked before a model is loaded. If it is too low, the run fails at its first step.",
    "Declare it: @advantage(min_rollouts_per_example=2). If an option needs more, raise an OptionError for fewer.",
    _check_fewest_rollouts,
    # The rewards of one rollout are equal.
    after=("equal_rewards",),
)
