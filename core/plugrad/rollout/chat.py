"""Chat templates: messages as the text of a prompt, and how the template ends a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, TemplateError, meta
from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]

ANSWER = "plugrad"
"""Stands for an answer where only what follows it matters."""


@dataclass(frozen=True)
class TurnEnd:
    """What a chat template writes after an answer, up to the token that ends it."""

    text: str
    token: int


def render(messages: Messages, tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> str:
    """Return the text that the model continues.

    After a message of the user, the template opens a turn of the assistant. A last message of the assistant stays open, and
    the model continues it.

    Raises:
        Exception: whatever the chat template raises.
    """
    continues = messages[-1]["role"] == "assistant"
    rendered = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        tokenize=False,
        add_generation_prompt=not continues,
        continue_final_message=continues,
        **options,
    )
    return str(rendered)


def turn_end(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> TurnEnd | None:
    """Return how the chat template ends an answer. None without a template, or if it ends answers with plain text."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
    try:
        rendered = str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except Exception:
        # The messages of the run may suit the template better. What rejects those is an error.
        return None
    _, found, rest = rendered.rpartition(ANSWER)
    added = tokenizer.added_tokens_decoder
    token = (
        next((id for id in tokenizer(rest, add_special_tokens=False)["input_ids"] if id in added), None) if found else None
    )
    if token is None:
        return None
    before, _, _ = rest.partition(added[token].content)
    return TurnEnd(before + added[token].content, int(token))


def unread_options(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the options that the chat template does not read, and the variables that it does read."""
    try:
        template = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(str(tokenizer.get_chat_template()))
    except (TemplateError, ValueError):
        # No template, or one with tags that only Transformers knows.
        return [], []
    read = meta.find_undeclared_variables(template)
    return sorted(set(options) - read - {"tools", "documents", "chat_template"}), sorted(read)
