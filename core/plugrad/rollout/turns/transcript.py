"""A conversation as the tokens that models read: those that were sampled stay, and new text is added behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from plugrad.contracts.rollout import Segment
from plugrad.host.chat_rules import check_waits
from plugrad.rollout.engine import Completion
from plugrad.rollout.special_tokens import PromptTokens
from plugrad.rollout.texts import Texts

Message = dict[str, Any]
CHAT = "policy.chat(...)"


@dataclass
class Row:
    """One segment while it grows: its tokens, and the replies in it."""

    ids: list[int]
    sampled: list[bool]
    replies: list[Completion] = field(default_factory=list)

    def add(self, ids: Sequence[int], *, sampled: bool) -> None:
        """Put tokens behind."""
        self.ids.extend(ids)
        self.sampled.extend([sampled] * len(ids))

    def segment(self) -> Segment:
        """Return it as a rollout holds it: up to the last token that was sampled."""
        end = len(self.sampled) - self.sampled[::-1].index(True)
        return Segment(ids=self.ids[:end], sampled=self.sampled[:end])


class Transcript:
    """The messages of one conversation, and its rows of tokens.

    The policy's tokens are never made of text again. A chat template is applied to all messages before each reply. If its
    text begins with the text so far, the rest becomes new tokens behind those that there are. If the template rewrote what
    came before, for example because it drops old thoughts, a new row begins.

    Without a chat template, a conversation is text: each message is added as it is.
    """

    def __init__(
        self,
        texts: Texts,
        prompt: str | Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        whose: str = CHAT,
    ) -> None:
        """Begin with a prompt.

        Args:
            texts: of the run.
            prompt: text, or chat messages.
            tools: schemas, for the chat template.
            whose: what the messages are of, for errors.
        """
        self.rows: list[Row] = []
        self.messages: list[Message] = [] if isinstance(prompt, str) else [dict(message) for message in prompt]
        self._texts, self._tools, self._whose = texts, [dict(tool) for tool in tools], whose
        self._is_plain = isinstance(prompt, str)
        # What the row says: its text so far, and what was added to a conversation of plain text since.
        self._text, self._added = "", prompt if isinstance(prompt, str) else ""
        self._answered = False

    def add(self, role: str, content: str, **fields: Any) -> None:
        """Add a message of the environment."""
        self.messages.append({"role": role, "content": content, **fields})
        self._added += content if self._is_plain else ""
        self._answered = False

    def prepare(self) -> list[int]:
        """Return the tokens that the next reply follows.

        Raises:
            ContractError: the last message is a whole reply.
            DataError: the chat template rejects the messages.
        """
        check_waits(is_answered=self._answered)
        if self._is_plain:
            self._open_plain()
        else:
            self._open_chat()
        return list(self.rows[-1].ids)

    def close(self, completion: Completion) -> str:
        """Take the reply that follows `prepare`; return its text, as environments see completions."""
        row, text = self.rows[-1], self._texts.completion(completion)
        row.add(completion.ids, sampled=True)
        row.replies.append(completion)
        self._answered = not completion.truncated
        if not self._is_plain:
            whole = self._texts.answer(completion)
            self.messages.append({"role": "assistant", "content": whole})
            self._text += whole + self._end_of(completion)
        return text

    def _open_plain(self) -> None:
        if not self.rows:
            self.rows.append(Row([], []))
            ids = self._plain.ids(self._added)
        else:
            ids = self._texts.tokens(self._added)
        self.rows[-1].add(ids, sampled=False)
        self._added = ""

    def _open_chat(self) -> None:
        text = self._texts.rendered(self.messages, self._tools, whose=self._whose)
        if self.rows and text.startswith(self._text):
            self.rows[-1].add(self._texts.tokens(text[len(self._text) :]), sampled=False)
        else:
            self.rows.append(Row([], []))
            self.rows[-1].add(self._texts.tokens(text), sampled=False)
        self._text = text

    def _end_of(self, completion: Completion) -> str:
        """Return the text of the token that ended a reply, if the template writes it after an answer."""
        end = self._texts.turn_end
        ended = not completion.truncated and bool(completion.ids) and end is not None and completion.ids[-1] == end.token
        return self._texts.visible(completion.ids[-1:]) if ended else ""

    @cached_property
    def _plain(self) -> PromptTokens:
        return PromptTokens.of(self._texts.tokenizer)
