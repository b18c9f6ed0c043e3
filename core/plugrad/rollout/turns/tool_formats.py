"""The tool calls in a reply: found by the tokenizer's own parser, or by the format that a family of models writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from plugrad.contracts.turns import ToolCall
from plugrad.json_text import parse_json
from plugrad.shown import shown

HERMES = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
PYTHON_TAG = "<|python_tag|>"


def calls_in(text: str, tokenizer: PreTrainedTokenizerBase, schemas: Sequence[dict[str, Any]], name: str) -> list[ToolCall]:
    """Return the tool calls in a reply, in order. One that cannot be read says why.

    Args:
        text: of the reply, with its special tokens.
        tokenizer: the policy's. Its `response_template` is used if `name` is `auto`.
        schemas: of the tools.
        name: a key of `FORMATS`, or `auto`.
    """
    if name == "auto" and getattr(tokenizer, "response_template", None):
        return list(_parsed(text, tokenizer, schemas))
    return list(FORMATS[format_of(tokenizer) if name == "auto" else name](text))


def format_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the format that the chat template writes tool calls in."""
    template = getattr(tokenizer, "chat_template", None)
    written = " ".join(template.values()) if isinstance(template, dict) else str(template or "")
    if "<tool_call>" in written:
        return "hermes"
    return "llama" if PYTHON_TAG in written or '"parameters": ' in written else "json"


def _parsed(text: str, tokenizer: PreTrainedTokenizerBase, schemas: Sequence[dict[str, Any]]) -> Iterator[ToolCall]:
    try:
        message = tokenizer.parse_response(text, prefix="", tools=list(schemas))
    # A template of regular expressions, which a policy's text may break in any way.
    except Exception as error:
        yield ToolCall(error=f"the reply cannot be read: {error}")
        return
    for call in message.get("tool_calls") or []:
        yield _checked(call.get("function", call), "arguments")


def _hermes(text: str) -> Iterator[ToolCall]:
    for found in HERMES.findall(text):
        yield _of_json(found, "arguments")


def _llama(text: str) -> Iterator[ToolCall]:
    written = text.strip().removeprefix(PYTHON_TAG).strip()
    if written.startswith("{"):
        yield from (_of_json(part, "parameters") for part in _objects(written))


def _json(text: str) -> Iterator[ToolCall]:
    fenced = FENCED.findall(text) or [text]
    for part in fenced:
        if part.strip().startswith("{"):
            yield from (_of_json(each, "arguments") for each in _objects(part.strip()))


FORMATS: dict[str, Callable[[str], Iterator[ToolCall]]] = {"hermes": _hermes, "llama": _llama, "json": _json}
"""`hermes`: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Qwen writes, too. `llama`: the reply is
`{"name": ..., "parameters": {...}}`, several divided by `;`. `json`: the reply, or each of its fenced blocks, is
`{"name": ..., "arguments": {...}}`."""


def _objects(text: str) -> Iterator[str]:
    """Yield the JSON objects of a text, divided by semicolons or blanks; what is left over is the last."""
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        try:
            _, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            yield rest
            return
        yield rest[:end]
        rest = rest[end:].lstrip("; \n\t")


def _of_json(text: str, key: str) -> ToolCall:
    try:
        value = parse_json(text, "the call")
    except ValueError as error:
        return ToolCall(error=str(error))
    return _checked(value, key)


def _checked(value: Any, key: str) -> ToolCall:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return ToolCall(error=f'a call is an object with "name" and "{key}", and this is {shown(value)}')
    arguments = value.get(key, value.get("arguments", {}))
    if isinstance(arguments, str):
        try:
            arguments = parse_json(arguments, f'"{key}"')
        except ValueError as error:
            return ToolCall(value["name"], error=str(error))
    if not isinstance(arguments, dict):
        return ToolCall(value["name"], error=f'"{key}" is {shown(arguments)}, and must be an object')
    return ToolCall(value["name"], arguments)
