"""Hold back what a component prints, and say once that it prints and how much."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

logger = logging.getLogger("plugrad")

SHOWN_CHARACTERS = 200


class HeldBack(io.TextIOBase):
    """A stream that keeps the beginning of a text, and counts its lines."""

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = getattr(stream, "rich_proxied_file", stream)
        """What rich's consoles go on to write to: they are ours."""
        self._begin, self._lines, self._ends_a_line = "", 0, True

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Keep the text's beginning."""
        # Room for white space, which is not shown.
        self._begin += text[: max(0, 5 * SHOWN_CHARACTERS - len(self._begin))]
        self._lines += text.count("\n")
        self._ends_a_line = text.endswith("\n") if text else self._ends_a_line
        return len(text)

    @property
    def shown(self) -> str:
        """The beginning, on one line; empty if nothing but white space was written."""
        text = " ".join(self._begin.split())
        return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."

    @property
    def num_lines(self) -> int:
        """How many lines were written."""
        return self._lines + (not self._ends_a_line)


@contextmanager
def prints_reported(owner: str) -> Iterator[None]:
    """Hold back what is printed in the body, and report it afterwards, unless a caller does so already."""
    if isinstance(sys.stdout, HeldBack):
        yield
        return
    printed = HeldBack(sys.stdout)
    try:
        with redirect_stdout(printed):
            yield
    finally:
        _report(owner, "prints", printed)


@contextmanager
def held_back(owner: str) -> Iterator[None]:
    """Hold back what is printed in the body on both standard streams, and report it afterwards."""
    errors = HeldBack(sys.stderr)
    try:
        with prints_reported(owner), redirect_stderr(errors):
            yield
    finally:
        _report(owner, "writes to standard error", errors)


def _report(owner: str, does: str, printed: HeldBack) -> None:
    if printed.shown:
        more = f" and so on, {printed.num_lines} lines" if printed.num_lines > 1 else ""
        logger.warning(
            "%s %s: %r%s. It will do so throughout the run. Return numbers as metrics.", owner, does, printed.shown, more
        )
