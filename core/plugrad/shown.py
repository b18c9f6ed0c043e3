"""Show what others wrote: short, and without the characters that a terminal would obey.

Options, columns, completions, templates, metadata of packages and answers of servers can be a megabyte long, or hold escape
sequences. Every message and every display passes them through one of these functions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any

from plugrad.user_interrupt import may_be_the_users

LIMIT = 200
"""How many characters of one value a message shows."""
LINE_LIMIT, LINES_LIMIT = 1000, 400
"""The longest message: no message of plugrad's own comes near it."""


def shown(value: Any, limit: int = LIMIT) -> str:
    """Return the `repr` of a value, shortened to about `limit` characters. It never raises."""
    if isinstance(value, str | bytes) and len(value) > limit:
        things = "characters" if isinstance(value, str) else "bytes"
        return f"{value[:limit]!r}... ({len(value):,} {things})"
    return printable(text_of(value, repr), limit)


def printable(text: object, limit: int = LIMIT) -> str:
    """Return text without quotes, shortened to about `limit` characters, with the characters that do not print escaped.

    Line feeds and tabs stay. It never raises.
    """
    whole = text_of(text)
    shortened = whole if len(whole) <= limit else f"{whole[:limit]}... ({len(whole):,} characters)"
    return escaped(shortened)


def text_of(value: object, convert: Callable[[object], str] = str) -> str:
    """Return `str(value)`. Where that raises, even SystemExit, the text says so."""
    try:
        return convert(value)
    except BaseException as error:
        if may_be_the_users(error):
            raise
        # Integers of thousands of digits, lists nested too deeply, and classes whose own method fails.
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def printable_message(text: str) -> str:
    """Return a whole message with each line shortened to 1,000 characters, and with at most 400 lines."""
    lines = text.split("\n", LINES_LIMIT)
    kept = [printable(line, LINE_LIMIT) for line in lines[:LINES_LIMIT]]
    return "\n".join([*kept, *["..."] * (len(lines) > LINES_LIMIT)])


def escaped(text: str) -> str:
    """Return text of any length with the characters that do not print escaped. Line feeds, tabs and spaces stay."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
