"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from plugrad.errors import OptionError
from plugrad.json_text import parse_json
from plugrad.shown import printable, shown

SETS = typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in --set loss.kwargs.clip_eps=0.1. Repeatable.")
TRACEBACK = typer.Option("--traceback", help="Show the full traceback of an error.")
REFERENCE = typer.Argument(help="A name, package/name, module:function or file.py:function.")
EXAMPLE_SHAPE = """Write a JSON object from columns to values, as in --example '{"difficulty": 1}'."""


def assignments(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Return the values of a repeatable option NAME=VALUE, by name.

    Raises:
        OptionError: one is no assignment.
    """
    pairs = [(text, *text.partition("=")) for text in texts or []]
    wrong = next((text for text, name, equals, value in pairs if not (name and equals and value)), None)
    if wrong is not None:
        raise OptionError(f"{option} {shown(wrong)} is not an assignment. Write {option} NAME=VALUE.")
    return {name.strip(): value.strip() for _, name, _, value in pairs}


def option_values(texts: Sequence[str] | None) -> dict[str, Any]:
    """Return the values that --set gives to options of a component, read as TOML.

    Raises:
        OptionError: one is no assignment, or its value cannot be read.
    """
    from plugrad.config.override import toml_value

    values = {}
    for name, text in assignments("--set", texts).items():
        try:
            values[name] = toml_value(text)
        except (ValueError, RecursionError) as error:
            raise OptionError(f"--set {name}={shown(text)}: its value cannot be read: {printable(error)}.") from error
    return values


def columns_of(text: str | None) -> dict[str, Any]:
    """Return the columns of an example from JSON.

    Raises:
        OptionError: the text is no JSON object.
    """
    try:
        columns = parse_json(text or "{}", f"--example {shown(text)}")
    except ValueError as error:
        raise OptionError(f"{error}. {EXAMPLE_SHAPE}") from error
    if not isinstance(columns, dict):
        raise OptionError(f"--example {shown(text)} is not an object. {EXAMPLE_SHAPE}")
    return columns
