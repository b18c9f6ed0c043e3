"""What an environment with turns plays with: the policy, conversations with it, and its replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class PlayEnded(Exception):
    """Raised by `Chat.reply` once a rollout has reached a limit. Let it pass, unless `play` has a reward to return."""


@dataclass(frozen=True)
class Reply:
    """What the policy wrote in one turn."""

    text: str
    """As environments see completions: with special tokens, without the one that ended it."""
    truncated: bool
    """Whether it ended at `max_new_tokens` or at the limit of the rollout."""
    num_tokens: int


class Chat(Protocol):
    """A conversation with the policy. Its replies are trained on; what the environment adds never is."""

    @property
    def messages(self) -> Sequence[Mapping[str, Any]]:
        """All messages so far, as a chat template gets them."""
        ...

    async def reply(self, *, max_new_tokens: int | None = None, stop: Sequence[str] = ()) -> Reply:
        """Let the policy write the next message.

        Args:
            max_new_tokens: at most this and `rollout.max_new_tokens`.
            stop: strings that end the reply, beside those of `rollout.stop`.

        Raises:
            ContractError: the last message is a whole reply already.
            PlayEnded: the rollout has reached `rollout.max_turns` or its longest row. If it passes through `play`, the
                rewards of replies are all that the rollout gets.
        """
        ...

    def add(self, role: str, content: str, **fields: Any) -> None:
        """Add a message of the environment, with further fields for the chat template.

        In a conversation that began with a text instead of messages, `content` is added as it is.
        """
        ...

    def reward(self, value: float) -> None:
        """Give the last reply a reward of its own. Those of all replies are added to what `play` returns."""
        ...


class Player(Protocol):
    """The policy, as `play` gets it."""

    def chat(self, prompt: str | Sequence[Mapping[str, Any]]) -> Chat:
        """Begin a conversation with a text, or with chat messages."""
        ...
