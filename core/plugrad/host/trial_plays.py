"""A made-up policy, for trying an environment that plays with one before a model is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plugrad.contracts.rollout import Rollout
from plugrad.contracts.turns import PlayEnded, Reply, ToolCall
from plugrad.host.calling import call_plugin
from plugrad.host.chat_rules import REPLY, check_added, check_text, check_waits, checked_reward
from plugrad.host.environment import BoundEnvironment
from plugrad.host.tools import Tools

MOST_REPLIES = 16
LONG = 10_000
"""Characters from which on a made-up reply counts as cut."""


def score_or_play(environment: BoundEnvironment, rollouts: Sequence[Rollout]) -> None:
    """Let an environment score rollouts. One that plays does so with a policy that always writes the rollout's completion.

    Raises:
        ContractError: it raised, or did not return a score.
        DataError: a reward is not a finite number.
    """
    if not environment.plays:
        environment.score(rollouts)
        return
    play_on_trial(environment, rollouts, [MadeUpPolicy(rollout["completion"]) for rollout in rollouts])


@dataclass
class MadeUpPolicy:
    """A policy that always writes the same, and what an environment did with it."""

    text: str
    calls: Sequence[ToolCall] = ()
    """What it calls, in conversations with tools. A call without name or error is of the first tool."""
    script: Sequence[str] | None = None
    """What it writes instead, one after another. Then the play ends."""
    num_replies: int = 0
    of_turns: float = 0.0
    is_served: bool = False
    """Whether the environment asked for its address. It has none: what needs one is not tried."""
    said: list[tuple[str, str]] = field(default_factory=list)
    """Role and content of every message after the prompts."""
    tools: list[str] = field(default_factory=list)
    """The tools that it was given."""

    @property
    def base_url(self) -> str:
        """End the play."""
        self.is_served = True
        raise _NotServedError

    def next_text(self) -> str:
        """Return what it writes next.

        Raises:
            PlayEnded: it has written enough.
        """
        most = MOST_REPLIES if self.script is None else len(self.script)
        if self.num_replies >= most:
            raise PlayEnded
        self.num_replies += 1
        return self.text if self.script is None else self.script[self.num_replies - 1]

    def chat(self, prompt: str | Sequence[Mapping[str, Any]], tools: Sequence[Callable[..., Any]] = ()) -> MadeUpChat:
        """Begin a conversation."""
        check_text(() if isinstance(prompt, str) else prompt, "policy.chat(...)")
        described = Tools.of(tools)
        self.tools += described.functions
        return MadeUpChat(self, prompt, described)


def play_on_trial(environment: BoundEnvironment, rollouts: Sequence[Rollout], policies: Sequence[MadeUpPolicy]) -> None:
    """Let an environment play, all at once as in a run, and write the scores into the rollouts.

    Raises:
        ContractError: it raised, or did not return a score.
        DataError: a reward is not a finite number.
    """

    async def play(rollout: Rollout, policy: MadeUpPolicy) -> object:
        try:
            return await environment.play(rollout["example"], policy)
        except (PlayEnded, _NotServedError):
            return None

    async def play_all() -> list[object]:
        return await asyncio.gather(*map(play, rollouts, policies))

    outcomes = call_plugin(f"{environment.component}.play", lambda: asyncio.run(play_all()))
    for outcome, policy, rollout in zip(outcomes, policies, rollouts, strict=True):
        environment.write_outcome(outcome, policy.of_turns, rollout)


class _NotServedError(Exception):
    """The end of a play that asked for the policy's address."""


class MadeUpChat:
    """A conversation with it."""

    def __init__(self, policy: MadeUpPolicy, prompt: str | Sequence[Mapping[str, Any]], tools: Tools) -> None:
        """Begin with a prompt."""
        self._policy, self._tools = policy, tools
        self._messages: list[Mapping[str, Any]] = [] if isinstance(prompt, str) else [dict(message) for message in prompt]
        self._has_reply = self._is_answered = False

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """All messages so far."""
        return tuple(dict(message) for message in self._messages)

    async def reply(self, *, max_new_tokens: int | None = None, stop: Sequence[str] = ()) -> Reply:
        """Write what is always written."""
        policy = self._policy
        check_waits(is_answered=self._is_answered)
        # So that plays that go on at once take turns, as in a run.
        await asyncio.sleep(0)
        text = policy.next_text()
        truncated = len(text) >= LONG
        self._has_reply, self._is_answered = True, not truncated
        self._take(REPLY, text)
        return Reply(text, truncated, 1 + len(text), self._calls())

    def _take(self, role: str, content: str, **fields: Any) -> None:
        self._messages.append({"role": role, "content": content, **fields})
        self._policy.said.append((role, content))

    def _calls(self) -> list[ToolCall]:
        first = next(iter(self._tools.functions), None)
        named = [call if call.name or call.error else replace(call, name=first or "") for call in self._policy.calls]
        return [] if first is None else named

    async def use_tools(self, reply: Reply) -> int:
        """Call the tools that a reply asks for, and add what each returns."""
        for call in reply.tool_calls:
            told, _ = await self._tools.answer(call)
            self.add("tool", told, **({"name": call.name} if call.name else {}))
        return len(reply.tool_calls)

    def add(self, role: str, content: str, **fields: Any) -> None:
        """Take a message."""
        check_added(role, content)
        self._take(role, content, **fields)
        self._is_answered = False

    def reward(self, value: float) -> None:
        """Take the reward of a reply."""
        self._policy.of_turns += checked_reward(value, has_reply=self._has_reply)
