"""The policy as an environment plays with it, and the rollout that comes of a play."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout, Turn
from plugrad.contracts.turns import PlayEnded, Reply, ToolCall
from plugrad.errors import ContractError
from plugrad.host.chat_rules import REPLY, check_added, check_text, checked_reward
from plugrad.host.tools import Tool, Tools
from plugrad.rollout.engine import Completion
from plugrad.rollout.texts import Texts
from plugrad.rollout.turns.seats import Ask
from plugrad.rollout.turns.tool_formats import calls_in
from plugrad.rollout.turns.transcript import CHAT, Row, Transcript


@dataclass(frozen=True)
class PlayLimits:
    """What bounds a play."""

    max_new_tokens: int
    """Of a reply."""
    max_turns: int
    """Replies of a rollout."""
    longest_row: int
    """Tokens that a model can read at once."""
    seconds: float
    """For the environment's part."""
    max_tokens: int | None = None
    """Tokens of a rollout, in all its rows."""
    tool_format: str = "auto"
    """How calls of tools are written: see `calls_in`."""


@dataclass
class _Said:
    """A message after the prompt."""

    role: str
    text: str
    row: Row | None = None
    """Of a reply: where its tokens are."""
    place: int = 0
    """Of a reply: how many of the row come before it."""
    reward: float | None = None
    calls: Sequence[ToolCall] = ()


class PolicyPlayer:
    """What `play` gets as its policy. See `plugrad.Player`."""

    def __init__(
        self, ask: Ask, texts: Texts, limits: PlayLimits, address_of: Callable[[PolicyPlayer], str] | None = None
    ) -> None:
        """Prepare for one play.

        Args:
            ask: continues tokens.
            texts: of the run.
            limits: of the play.
            address_of: makes an address at which agents reach the policy.
        """
        self.ask, self.texts, self.limits = ask, texts, limits
        self.address_of = address_of or _no_address
        self.at_end: list[Callable[[], object]] = []
        self._base_url: str | None = None
        self.said: list[_Said] = []
        self.was_cut = False
        self.num_calls = self.num_failed_calls = 0
        self._num_asked = self._num_awaited = 0
        self._chats: list[PolicyChat] = []

    @property
    def base_url(self) -> str:
        """An OpenAI-compatible address of the policy, for this play alone."""
        if self._base_url is None:
            self._base_url = self.address_of(self)
        return self._base_url

    def end(self) -> None:
        """Take no more requests."""
        for act in self.at_end:
            act()

    def chat(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        tools: Sequence[Tool] = (),
        schemas: Sequence[Mapping[str, Any]] = (),
        whose: str = CHAT,
    ) -> PolicyChat:
        """Begin a conversation. `schemas` are of tools that somebody else calls, and `whose` is for errors."""
        check_text(() if isinstance(prompt, str) else prompt, whose)
        described = Tools.of(tools) if tools else Tools({}, [dict(schema) for schema in schemas])
        begun = PolicyChat(self, Transcript(self.texts, prompt, described.schemas, whose), described)
        self._chats.append(begun)
        return begun

    async def continued(self, ids: list[int], most: int) -> Completion:
        """Let the policy continue a row by at most so many tokens, within the limits of the rollout.

        Raises:
            PlayEnded: there is no room.
        """
        limits = self.limits
        rooms = [limits.longest_row - len(ids)]
        if limits.max_tokens is not None:
            rooms.append(limits.max_tokens - self._num_tokens - self._num_awaited)
        if self._num_asked >= limits.max_turns or min(rooms) < 1:
            self.was_cut = True
            raise PlayEnded
        most = min(most, *rooms)
        # Of several conversations at once, each counts what the others may still get.
        self._num_asked += 1
        self._num_awaited += most
        try:
            return await self.ask(ids, most)
        finally:
            self._num_awaited -= most

    @property
    def _num_tokens(self) -> int:
        return sum(len(row.ids) for chat in self._chats for row in chat.transcript.rows)

    @property
    def num_replies(self) -> int:
        """How many replies there are."""
        return sum(said.row is not None for said in self.said)

    @property
    def rewards_of_turns(self) -> float:
        """What the replies got, together."""
        return math.fsum(said.reward or 0.0 for said in self.said)

    @property
    def numbers(self) -> dict[str, float]:
        """What is reported of the play."""
        rows = [row for chat in self._chats for row in chat.transcript.rows]
        of_tools = {"tool_calls": self.num_calls, "failed_tool_calls": self.num_failed_calls}
        used = of_tools if any(chat.has_tools for chat in self._chats) else {}
        given = sum(len(row.sampled) - sum(row.sampled) for row in rows)
        return {name: float(n) for name, n in {"turns": self.num_replies, "tokens_given": given, **used}.items()}

    def rollout(self, example: Example) -> Rollout:
        """Return what was played, without its score."""
        rows = [row for chat in self._chats for row in chat.transcript.rows if row.replies]
        replies = [completion for row in rows for completion in row.replies]
        logprobs = [reply.logprobs for reply in replies]
        first = rows[0] if rows else None
        prompt = self.texts.prompts([example], room=None)[0].ids if first is None else first.ids[: first.sampled.index(True)]
        made = Rollout(
            prompt=self.texts.visible(prompt),
            completion="\n".join(said.text for said in self.said if said.row is not None),
            prompt_ids=prompt,
            completion_ids=[token for reply in replies for token in reply.ids],
            inference_logprobs=None if None in logprobs else [each for row in logprobs for each in row or ()],
            reward=math.nan,
            reward_components={},
            truncated=self.was_cut or (bool(replies) and self._last_reply().truncated),
            example=example,
            metrics={},
            policy_versions=[version for reply in replies for version in reply.policy_versions],
            turns=self._turns(rows),
        )
        if rows:
            made["segments"] = [row.segment() for row in rows]
        return made

    def _last_reply(self) -> Completion:
        last = next(said for said in reversed(self.said) if said.row is not None)
        assert last.row is not None
        return last.row.replies[last.place]

    def _turns(self, rows: Sequence[Row]) -> list[Turn]:
        starts = dict(zip(map(id, rows), accumulate((sum(row.sampled) for row in rows), initial=0), strict=False))
        turns: list[Turn] = []
        following = sum(sum(row.sampled) for row in rows)
        for said in reversed(self.said):
            start = stop = following
            if said.row is not None:
                start = starts[id(said.row)] + sum(len(reply.ids) for reply in said.row.replies[: said.place])
                stop = start + len(said.row.replies[said.place].ids)
                following = start
            turn = Turn(role=said.role, text=said.text, start=start, stop=stop, reward=said.reward)
            if said.calls:
                turn["tool_calls"] = [asdict(call) for call in said.calls]
            turns.append(turn)
        return turns[::-1]


def _no_address(player: PolicyPlayer) -> str:
    raise ContractError("policy.base_url: nothing serves the policy here.")


class PolicyChat:
    """A conversation. See `plugrad.Chat`."""

    def __init__(self, player: PolicyPlayer, transcript: Transcript, tools: Tools) -> None:
        """Begin with what the transcript has."""
        self.transcript, self._tools = transcript, tools
        self._player = player
        self._last: _Said | None = None

    @property
    def has_tools(self) -> bool:
        """Whether the policy has tools in it."""
        return bool(self._tools.schemas)

    @property
    def num_prompt_tokens(self) -> int:
        """How many tokens came before the last reply."""
        row = self.transcript.rows[-1]
        return len(row.ids) - len(row.replies[-1].ids)

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """All messages so far."""
        return tuple(dict(message) for message in self.transcript.messages)

    def add(self, role: str, content: str, **fields: Any) -> None:
        """Add a message of the environment."""
        check_added(role, content)
        self.transcript.add(role, content, **fields)
        self._player.said.append(_Said(role, content))

    async def reply(self, *, max_new_tokens: int | None = None, stop: Sequence[str] = ()) -> Reply:
        """Let the policy write the next message."""
        player, limits = self._player, self._player.limits
        ids = self.transcript.prepare()
        found = await player.continued(ids, min(limits.max_new_tokens, max_new_tokens or limits.max_new_tokens))
        texts = replace(player.texts, stop=(*player.texts.stop, *([stop] if isinstance(stop, str) else stop)))
        completion = texts.cut(found)
        text = self.transcript.close(completion)
        row = self.transcript.rows[-1]
        self._last = _Said(REPLY, text, row, len(row.replies) - 1)
        self._last.calls = self._calls(completion)
        player.said.append(self._last)
        return Reply(text, completion.truncated, len(completion.ids), self._last.calls)

    async def use_tools(self, reply: Reply) -> int:
        """Call the tools that a reply asks for, and add what each returns."""
        for call in reply.tool_calls:
            told, worked = await self._tools.answer(call)
            self._player.num_calls += 1
            self._player.num_failed_calls += not worked
            self.add("tool", told, **({"name": call.name} if call.name else {}))
        return len(reply.tool_calls)

    def _calls(self, completion: Completion) -> list[ToolCall]:
        if not self._tools.schemas:
            return []
        texts, limits = self._player.texts, self._player.limits
        return calls_in(texts.answer(completion), texts.tokenizer, self._tools.schemas, limits.tool_format)

    def reward(self, value: float) -> None:
        """Give the last reply a reward of its own."""
        number = checked_reward(value, has_reply=self._last is not None)
        assert self._last is not None
        self._last.reward = number + (self._last.reward or 0.0)
