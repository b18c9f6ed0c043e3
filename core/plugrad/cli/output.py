"""Where commands print: consoles that let no escape sequence of others through, and that outlive their reader."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from io import TextIOWrapper

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from plugrad.shown import escaped


class Output(Console):
    """A console for text that others wrote. Once nothing can be written it goes silent, so that a run continues."""

    failure: OSError | None = None
    """Why the output is lost. None also if its reader has gone, as with `| head`."""

    def __init__(self, *, stderr: bool = False) -> None:
        # No markup: rich would interpret the brackets in `list[int]`, in a path or in a summary.
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render with escape sequences made visible: the last place that text passes, whoever wrote it."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escaped(segment.text))

    def on_broken_pipe(self) -> None:
        """Write nothing more, not even at exit."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            self.failure = error
            self.on_broken_pipe()


def drop_unwritten() -> None:
    """Forget what the standard streams could not write: Python would try again at its end, and exit with its own code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_whatever_the_encoding() -> None:
    """Let the standard streams write what their encoding lacks as escapes: a locale may know ASCII alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
