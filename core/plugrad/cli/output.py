"""Where commands print: consoles that let no escape sequence of others through, and that outlive their reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from io import TextIOWrapper
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from plugrad.shown import escaped


class Output(Console):
    """A console for text that others wrote. Once nothing can be written it goes silent, so that a run continues."""

    failure: OSError | None = None
    """Why the output is lost. None also if its reader has gone, as with `| head`."""

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
        self.quiet = True
        _write_no_more(self.file)

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            self.failure = error
            self.on_broken_pipe()
        except ValueError as error:
            if not self.file.closed:
                raise
            self.failure = OSError(str(error))
            self.on_broken_pipe()


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


def print_whatever_the_encoding() -> None:
    """Let the standard streams write what their encoding lacks as escapes: a locale may know ASCII alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
