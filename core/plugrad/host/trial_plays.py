"""A made-up policy, for trying an environment that plays with one before a model is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.contracts.turns import PlayEnded, Reply
from plugrad.host.calling import call_plugin
from plugrad.host.environment import BoundEnvironment

MOST_REPLIES = 16


def score_or_play(environment: BoundEnvironment, rollouts: Sequence[Rollout]) -> None:
    """Let an environment score rollouts. One that plays does so with a policy that always writes the rollout's completion.

    Raises:
        ContractError: it raised, or did not return a score.
        DataError: a reward is not a finite number.
    """
    if not environment.plays:
        environment.score(rollouts)
        return
    for rollout in rollouts:
        _play(environment, rollout)


def _play(environment: BoundEnvironment, rollout: Rollout) -> None:
    player = _MadeUpPlayer(rollout["completion"])
    played = partial(_played, environment, rollout["example"], player)
    outcome = call_plugin(f"{environment.component}.play", lambda: asyncio.run(played()))
    environment.write_outcome(outcome, player.of_turns, rollout)


async def _played(environment: BoundEnvironment, example: Example, player: _MadeUpPlayer) -> object:
    try:
        return await environment.play(dict(example), player)
    except (PlayEnded, _NotServedError):
        return None


class _NotServedError(Exception):
    """A policy that is made up has no address: what needs one is not tried."""


class _MadeUpPlayer:
    """A policy that always writes the same."""

    def __init__(self, text: str) -> None:
        self.text, self.num_replies, self.of_turns = text, 0, 0.0

    @property
    def base_url(self) -> str:
        """End the play."""
        raise _NotServedError

    def chat(self, prompt: str | Sequence[Mapping[str, Any]], tools: Sequence[Callable[..., Any]] = ()) -> _MadeUpChat:
        """Begin a conversation."""
        return _MadeUpChat(self, prompt)


class _MadeUpChat:
    """A conversation with it."""

    def __init__(self, player: _MadeUpPlayer, prompt: str | Sequence[Mapping[str, Any]]) -> None:
        self._player = player
        self.messages: list[Mapping[str, Any]] = [] if isinstance(prompt, str) else [dict(message) for message in prompt]

    async def reply(self, *, max_new_tokens: int | None = None, stop: Sequence[str] = ()) -> Reply:
        """Write what is always written."""
        await asyncio.sleep(0)
        if self._player.num_replies >= MOST_REPLIES:
            raise PlayEnded
        self._player.num_replies += 1
        self.messages.append({"role": "assistant", "content": self._player.text})
        return Reply(self._player.text, truncated=False, num_tokens=1 + len(self._player.text))

    async def use_tools(self, reply: Reply) -> int:
        """Use none: what is always written is no call."""
        return 0

    def add(self, role: str, content: str, **fields: Any) -> None:
        """Take a message."""
        self.messages.append({"role": role, "content": content, **fields})

    def reward(self, value: float) -> None:
        """Take the reward of a reply."""
        self._player.of_turns += float(value)
