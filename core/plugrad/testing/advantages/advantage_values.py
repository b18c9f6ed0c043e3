"""Promises about an advantage's values: finite, repeatable, of its inputs alone, and for groups as small as it says."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from plugrad.contracts.advantage import AdvantageInputs
from plugrad.errors import InputsChanged, OptionError
from plugrad.host.trial import on_trial
from plugrad.testing.advantages.advantage_trial import AdvantageTrial, as_groups, named
from plugrad.testing.advantages.trial_groups import draw_groups
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.numbers import are_same, compare_numbers
from plugrad.testing.state import check_state

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
    return "as they were"


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


def _check_lengths(advantage: AdvantageTrial) -> str:
    numbers = [advantage.groups(advantage.draw(lengths=lengths)) for lengths in (ALL_ONE, VERY_UNEQUAL)]
    equal = advantage.groups(advantage.draw(lengths=EQUAL))
    first_tokens = [named([[tokens[:1] for tokens in group] for group in groups]) for groups in (*numbers, equal)]
    if all(are_same(found, first_tokens[0]) for found in first_tokens):
        return "of 1 to 1000 tokens; they change nothing"
    return "of 1 to 1000 tokens; they matter to it"


def _check_fewest_rollouts(advantage: AdvantageTrial) -> str:
    fewest = advantage.facts.min_rollouts_per_example
    try:
        advantage.outputs(draw_groups(num_rollouts=fewest))
    except OptionError as error:
        return f"with these options {fewest} are too few, and refused: {error}"
    return f"{fewest} rollout{'s' if fewest > 1 else ''} of an example are enough"


def _check_single_precision(advantage: AdvantageTrial) -> str:
    inputs = advantage.draw()
    found = advantage.numbers(_in_single_precision(inputs))
    seen = compare_numbers(found, advantage.numbers(inputs), "With rewards in float32", SINGLE_PRECISION)
    return f"{seen} from float64"


def _in_single_precision(inputs: AdvantageInputs) -> AdvantageInputs:
    assert inputs.greedy_rewards is not None
    return replace(inputs, rewards=inputs.rewards.float(), greedy_rewards=inputs.greedy_rewards.float())


def _check_needs(advantage: AdvantageTrial) -> str:
    if not advantage.component.needs:
        raise NotApplicable("it asks for no optional field")
    inputs = advantage.draw()
    assert inputs.greedy_rewards is not None
    other = replace(inputs, greedy_rewards=1 - inputs.greedy_rewards)
    if are_same(advantage.numbers(other), advantage.numbers(inputs)):
        raise Broken("with other greedy_rewards its values are the same")
    return "reads greedy_rewards"


RUNS: Promise[AdvantageTrial] = Promise(
    "runs",
    "it returns one finite number per rollout, or per completion token",
    "Anything else ends the run, and a NaN would turn the whole policy into NaN.",
    "Return plugrad.AdvantageOutputs(...) with a tensor shaped as inputs.rewards, or for each rollout a tensor as long as "
    "inputs.completion_lengths says.",
    _check_runs,
)
VALUES: tuple[Promise[AdvantageTrial], ...] = (
    Promise(
        "lengths",
        "it works for completions of one token, and of very unequal lengths",
        "A policy that has just learnt to stop ends at once; another never does.",
        "Divide by no `length - 1`. Per token, return a tensor as long as each completion. Whether lengths matter is "
        "reported.",
        _check_lengths,
    ),
    Promise(
        "fewest_rollouts",
        "it works with as few rollouts of an example as it says",
        "The number is checked before a model is loaded. Too low a one ends a run at its first step.",
        "State it: @advantage(min_rollouts_per_example=2). An option that asks for more refuses fewer with an OptionError.",
        _check_fewest_rollouts,
    ),
    Promise(
        "single_precision",
        "rewards in float32 give the same advantages, to three digits",
        "A run has them in float64, and other training loops in float32.",
        "Make new tensors with inputs.rewards.new_tensor(...), torch.ones_like or .to(inputs.rewards), and name no dtype.",
        _check_single_precision,
    ),
    Promise(
        "needs",
        "it reads every field that it asks for",
        "greedy_rewards cost a completion more for each example.",
        "Remove the field from @advantage(needs={...}), or make `needs` a function of the options that call for it.",
        _check_needs,
    ),
    Promise(
        "inputs_unchanged",
        "it leaves its inputs as they are, the rollouts too",
        "Extensions and metrics are given the same rewards and rollouts, and report what they are after it.",
        "Write `x = x - y` and not `x -= y`; use functions without a trailing underscore; dict(rollout) for a rollout.",
        _check_inputs_unchanged,
    ),
    Promise(
        "deterministic",
        "the same batch gives the same advantages",
        "Every rank computes them by itself: by chance they would train on different ones. Nor could a run be repeated.",
        "Draw nothing at random, and read no clock and no set in its own order.",
        _check_deterministic,
    ),
    Promise(
        "state",
        "what it has seen before does not matter, unless it declares state",
        "State that nobody saves is lost with the run.",
        "Keep nothing in globals, in a default argument or on self. What must be kept belongs to a class with state_dict() "
        "and load_state_dict().",
        _check_state,
    ),
)
