"""What an environment with turns plays with: the policy, conversations with it, and its replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class PlayEnded(Exception):
    """Raised by `Chat.reply` once a rollout has reached a limit. Let it pass, unless `play` has a reward to return."""


@dataclass(frozen=True)
class ToolCall:
    """A tool that the policy wants to use."""

    name: str = ""
    """The tool's, or empty if the call does not say it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """By name, as the policy wrote them."""
    error: str | None = None
    """Why the call cannot be read, if so."""


@dataclass(frozen=True)
class Reply:
    """What the policy wrote in one turn."""

    text: str
    """As environments see completions: with special tokens, without the one that ended it."""
    truncated: bool
    """Whether it ended at `max_new_tokens` or at the limit of the rollout."""
    num_tokens: int
    """How many tokens were sampled, with the one that ended it."""
    tool_calls: Sequence[ToolCall] = ()
    """In a conversation with tools. One that cannot be read says why."""


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
            PlayEnded: the rollout has reached `rollout.max_turns`, `rollout.max_tokens` or its longest row. If it passes
                through `play`, the rewards of replies are all that the rollout gets.
        """
        ...

    async def use_tools(self, reply: Reply) -> int:
        """Call the tools that a reply asks for, and add what each returns as a message `tool`; return their number.

        A call that cannot be read, another name, wrong arguments and what a tool raises are told to the policy.
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

    @property
    def base_url(self) -> str:
        """An OpenAI-compatible address on this machine, for this rollout alone: chat completions with tools, completions
        and models. Replies over it are trained on like those of `chat`.
        """
        ...

    def chat(self, prompt: str | Sequence[Mapping[str, Any]], tools: Sequence[Callable[..., Any]] = ()) -> Chat:
        """Begin a conversation with a text, or with chat messages.

        Args:
            prompt: the text, or the messages.
            tools: functions with annotated arguments and docstrings. The chat template describes them to the policy.
        """
        ...
