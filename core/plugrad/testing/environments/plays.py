"""Promises about an environment that plays with the policy."""

from __future__ import annotations

from collections.abc import Sequence

from plugrad.contracts.environment import Example
from plugrad.contracts.turns import ToolCall
from plugrad.errors import PlugradError
from plugrad.host.trial_plays import MOST_REPLIES, MadeUpPolicy
from plugrad.shown import shown
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.environments.environment_trial import EnvironmentTrial

CALLS = (ToolCall(error="this is no JSON"), ToolCall("no_such_tool", {"a": 1}), ToolCall("", {"no_such_argument": None}))
"""Calls of tools that a policy writes before it has learned any: unreadable, of another name, with wrong arguments."""
SHOWN_CHARACTERS = 300


def _check_asks(environment: EnvironmentTrial) -> str:
    bound = environment.environment
    if not bound.plays:
        raise NotApplicable("it scores completions and does not play")
    policies = environment.play([attempt.rollout() for attempt in environment.attempts])
    if any(policy.is_served for policy in policies):
        raise NotApplicable("it reaches the policy at its address, where nothing is served in a check")
    numbers = [policy.num_replies for policy in policies]
    if not min(numbers):
        attempt = environment.attempts[numbers.index(0)]
        raise Broken(f"play asked for no reply for example {shown(attempt.example['example_id'])}")
    return f"{min(numbers)} to {max(numbers)} replies" + (" (the most)" if max(numbers) == MOST_REPLIES else "")


def _check_tool_calls(environment: EnvironmentTrial) -> str:
    if not environment.environment.plays:
        raise NotApplicable("it scores completions and does not play")
    tools: dict[str, None] = {}
    for call in CALLS:
        policy = _after_call(environment, call)
        tools |= dict.fromkeys(policy.tools)
    if not tools:
        raise NotApplicable("it gives the policy no tools")
    return f"{len(CALLS)} odd calls of {', '.join(tools)}, each survived"


def _after_call(environment: EnvironmentTrial, call: ToolCall) -> MadeUpPolicy:
    [attempt, *_] = environment.attempts
    rollout = attempt.rollout()
    try:
        [policy] = environment.play([rollout], calls=[call])
    except PlugradError as error:
        what = call.error or f"{call.name or 'a tool'}({', '.join(call.arguments)})"
        raise Broken(f"the call {what}: {str(error)[:SHOWN_CHARACTERS]}") from error
    return policy


def _check_examples_unchanged(environment: EnvironmentTrial) -> str:
    bound = environment.environment
    if not bound.plays:
        raise NotApplicable("it scores completions and does not play")
    before = _texts_of(bound.train_examples())
    environment.scores(environment.attempts)
    if _texts_of(bound.train_examples()) != before or _texts_of(bound.environment.train_examples()) != before:
        raise Broken("the examples of train_examples() were others after the plays than before")
    return "unchanged"


def _texts_of(examples: Sequence[Example]) -> list[str]:
    return [repr({name: value for name, value in example.items() if name != "example_id"}) for example in examples]


PLAYS: tuple[Promise[EnvironmentTrial], ...] = (
    Promise(
        "asks",
        "each play asks the policy for a reply",
        "A rollout without a reply has no tokens, so that nothing is learned from it.",
        "Begin with chat = policy.chat(example['prompt']) and reply = await chat.reply().",
        _check_asks,
    ),
    Promise(
        "tool_calls",
        "a play survives calls of tools that cannot be read, that name no tool, or that have wrong arguments",
        "A policy calls tools wrongly before it has learned to. A play that raises costs its rollout.",
        "Let chat.use_tools(reply) call them: it tells the policy what was wrong. Or look at `error` of each call first, "
        "and use arguments.get(...).",
        _check_tool_calls,
    ),
    Promise(
        "examples_unchanged",
        "a play leaves the examples as they are",
        "All plays of a step go on at once, and later steps use the same examples.",
        "Keep what changes in local variables of play, not in the example or in what train_examples() returns.",
        _check_examples_unchanged,
    ),
)
