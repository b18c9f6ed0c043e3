"""Words of error messages: names that exist, and the one that was meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 200


def among(name: object, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" where a known name is near, and else nothing."""
    near = get_close_matches(str(name)[:LONGEST], list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[object]) -> str:
    """Return names as one line."""
    return ", ".join(map(str, names)) or "none"


def cut(value: object) -> str:
    """Return a value for a message: what others wrote may be long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def reason(error: BaseException) -> str:
    """Return what went wrong at the root of an exception."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600].rstrip('.')}"
