"""Which conversation a request goes on with: that whose messages it repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugrad.rollout.turns.player import PolicyChat, PolicyPlayer

REPLY = "assistant"
REQUEST = "a request to policy.base_url"


@dataclass
class _Known:
    """A conversation, as its agent knows it."""

    chat: PolicyChat
    tools: Sequence[Mapping[str, Any]]
    messages: list[dict[str, Any]] = field(default_factory=list)
    text: str | None = None
    """Of a conversation of plain text."""


class Conversations:
    """The conversations of one play that its agent leads over the endpoint."""

    def __init__(self, player: PolicyPlayer) -> None:
        """Begin without any."""
        self._player = player
        self._known: list[_Known] = []

    def of_messages(self, messages: Sequence[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> _Known:
        """Return the conversation that these messages go on with, with those added that are new, or a new one.

        An agent may repeat a reply word for word, which is how chat clients go on; then the tokens are those that were
        sampled. Whatever else it makes of the messages so far is a new conversation, and a further row of the rollout.
        """
        for known in reversed(self._known):
            num = len(known.messages)
            if known.text is None and known.tools == tools and num < len(messages) and messages[:num] == known.messages:
                new = messages[num:]
                if all(message["role"] != REPLY for message in new):
                    self._add(known, new)
                    return known
        known = _Known(self._player.chat(list(messages), schemas=tools, whose=REQUEST), tools, list(messages))
        self._known.append(known)
        return known

    def of_text(self, prompt: str) -> _Known:
        """Return the conversation that this text goes on with, or a new one."""
        for known in reversed(self._known):
            if known.text is not None and prompt.startswith(known.text) and len(prompt) > len(known.text):
                known.chat.add("user", prompt[len(known.text) :])
                known.text = prompt
                return known
        known = _Known(self._player.chat(prompt), (), text=prompt)
        self._known.append(known)
        return known

    @staticmethod
    def _add(known: _Known, new: Sequence[dict[str, Any]]) -> None:
        for message in new:
            fields = {name: value for name, value in message.items() if name not in ("role", "content")}
            known.chat.add(message["role"], message["content"] or "", **fields)
        known.messages.extend(new)
