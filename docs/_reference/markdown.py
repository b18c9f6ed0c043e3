"""Tables, and types as a reader says them."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from plugrad import CallableReference
from plugrad.config.one_of import OneOf

NAMES = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    list: "list",
    dict: "table",
    Any: "anything",
}
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
NOTHING = "&ndash;"
CODE = re.compile(r"(`[^`]*`)")
NOT_PLAIN = re.compile(r"[^\w\s.,:;=/()+-]")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, the same for GitHub and for Python-Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def plain(text: str) -> str:
    """Return text in which nothing is Markdown."""
    return NOT_PLAIN.sub(lambda match: f"&#{ord(match[0])};", text)


def in_words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return a type as a reader of a run file says it: "integer > 0", "one of ..."."""
    if annotation == CallableReference:
        return "`module:function` or `file.py:function`"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return in_words(arguments[0], [*metadata, *arguments[1:]])
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(part, metadata) for part in arguments if part is not types.NoneType)
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(f"`{value}`" for value in arguments)
    if names := next((item.names() for item in metadata if isinstance(item, OneOf)), None):
        return f"one of {', '.join(f'`{name}`' for name in names)}"
    of_items = f" of {_plural(in_words(arguments[0]))}" if origin is list else ""
    return f"{NAMES[origin or annotation]}{of_items}{_bounds(metadata)}"


def as_toml(value: Any) -> str:
    """Return a default as a run file would write it."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _cell(text: str) -> str:
    """Return a cell whose bars do not end it. The two dialects disagree about a bar in backticks."""
    parts = CODE.split(" ".join(text.split()))
    return "".join(_code(part[1:-1]) if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def _code(text: str) -> str:
    return f"<code>{plain(text)}</code>" if "|" in text else f"`{text}`"


def _bounds(metadata: Iterable[Any]) -> str:
    constraints = [part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    shown = [
        f"{sign} {getattr(constraint, name)}"
        for constraint in constraints
        for name, sign in BOUNDS.items()
        if isinstance(constraint, annotated_types.BaseMetadata) and hasattr(constraint, name)
    ]
    return " " + " and ".join(shown) if shown else ""


def _plural(words: str) -> str:
    head, space, bounds = words.partition(" ")
    return (head if head == "text" else f"{head}s") + space + bounds
