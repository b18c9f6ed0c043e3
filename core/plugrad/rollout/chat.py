"""Chat templates: messages as the text of a prompt, and how the template ends a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, TemplateError, meta
from transformers import PreTrainedTokenizerBase

from plugrad.host.time_limit import time_limit

Messages = Sequence[Mapping[str, Any]]

TIMEOUT_S = 10.0
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
    return _applied(
        [dict(message) for message in messages],
        tokenizer,
        {"add_generation_prompt": not continues, "continue_final_message": continues, **options},
    )


def _applied(messages: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> str:
    """Call the chat template, which is a program of the model's folder and may never end."""
    with time_limit(TIMEOUT_S, "it", "A template takes milliseconds: correct its loops, or use another model's."):
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def turn_end(tokenizer: PreTrainedTokenizerBase, options: Mapping[str, Any]) -> TurnEnd | None:
    """Return how the chat template ends an answer. None without a template, or if it ends answers with plain text."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
    try:
        rendered = _applied(messages, tokenizer, options)
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
