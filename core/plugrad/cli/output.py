"""Where commands print: consoles that let no escape sequence of others through, and that outlive their reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from io import TextIOWrapper
from typing import IO

from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from plugrad.lasting_console import LastingConsole
from plugrad.shown import escaped


class Output(LastingConsole):
    """A console for text that others wrote."""

    def __init__(self, *, stderr: bool = False) -> None:
        # No markup: rich would interpret the brackets in `list[int]`, in a path or in a summary.
        # The stream as it is now: a plugin may replace or close those of `sys`.
        file = sys.stderr if stderr else sys.stdout
        super().__init__(file=file, stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render with escape sequences made visible: the last place that text passes, whoever wrote it."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escaped(segment.text))

    def on_broken_pipe(self) -> None:
        """Write nothing more, not even at exit."""
        super().on_broken_pipe()
        _write_no_more(self.file)

    def tell(self, failure: OSError) -> None:
        """Say nothing: the command does at its end."""


def drop_unwritten() -> None:
    """Forget what the standard streams could not write: Python would try again at its end, and exit with its own code."""
    for stream in (sys.stdout, sys.stderr):
        # A plugin may have replaced or closed it.
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError:
            _write_no_more(stream)


def _write_no_more(stream: IO[str]) -> None:
    with suppress(ValueError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_what_is_closed() -> None:
    """Open the null device for every standard stream that is closed, as by `>&-`.

    Otherwise the next file that the process opens would take its number, and receive what is meant for the stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Each is the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


WIDTHS = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
WIDEST = 10_000


def ignore_impossible_widths() -> None:
    """Forget sizes of a terminal that are no numbers, or so large that to fill such a line takes minutes."""
    for name in WIDTHS:
        given = os.environ.get(name, "1")
        # The digits of other alphabets are no numbers for rich, which asks for isdigit() alone.
        if not (given.isascii() and given.isdigit() and 0 < int(given[:9]) <= WIDEST and len(given) < 9):
            del os.environ[name]


def print_whatever_the_encoding() -> None:
    """Let the standard streams write what their encoding lacks as escapes: a locale may know ASCII alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
