"""What each kind of component promises, as the kit checks it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from _reference.markdown import table
from plugrad.testing import KIT_VERSION, Promise
from plugrad.testing.portable import PORTABLE

HOMES = {
    "loss": "losses",
    "advantage": "advantages",
    "metric": "metrics",
    "environment": "environments",
    "extension": "extensions",
    "engine": "engines",
}
CODE = re.compile(r"(`[^`]*`)")
MARKDOWN = re.compile(r"[*_<>\[\]{}#]")


def promises(of: str) -> str:
    """Return the table of one kind's promises; of `strict`, of `every-kind`, or the set's `version`.

    Raises:
        ValueError: there is no such table.
    """
    if of == "version":
        return f"This is version {KIT_VERSION} of the set."
    if of == "every-kind":
        return _table(PORTABLE)
    if of == "strict":
        return _table(import_module("plugrad.testing.losses").STRICT)
    if of not in HOMES:
        raise ValueError(f"there is no table of promises of {of!r}. There are {', '.join(HOMES)}.")
    found: tuple[Promise[Any], ...] = import_module(f"plugrad.testing.{HOMES[of]}").PROMISES
    return _table(promise for promise in found if promise not in PORTABLE)


def _table(found: Iterable[Promise[Any]]) -> str:
    rows = [(f"`{p.name}`", _prose(p.statement), _prose(p.why), _prose(p.fix)) for p in found]
    return table(("check", "promise", "why it matters", "the usual fix"), rows)


def _prose(text: str) -> str:
    """Return text in which nothing is Markdown but code in backticks."""
    parts = CODE.split(text)
    return "".join(part if part.startswith("`") else MARKDOWN.sub(lambda m: f"&#{ord(m[0])};", part) for part in parts)
