"""What `plugrad check` prints of finished checks, in whichever process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from plugrad.testing.checks import Result

STYLES = {"KEPT": "green", "FAILED": "bold red", "UNEXPECTED": "bold red", "EXPECTED": "yellow"}
"""By the name of the outcome; the others are dim."""


@dataclass(frozen=True)
class Line:
    """A finished check, as text."""

    name: str
    statement: str
    outcome: str
    """The name of the outcome."""
    word: str
    """The word for it."""
    seen: str
    why: str = ""
    fix: str = ""

    @classmethod
    def of(cls, result: Result) -> Line:
        """Return the text of a result."""
        promise = result.check.promise
        why, fix = result.why, result.fix
        if result.outcome.name == "UNEXPECTED":
            fix = "it was declared to fail and now passes: remove the declaration."
        return cls(promise.name, promise.statement, result.outcome.name, result.outcome.value, result.seen, why, fix)

    @property
    def is_bad(self) -> bool:
        """Whether something is to be fixed."""
        return self.outcome in ("FAILED", "UNEXPECTED")


def print_lines(lines: Iterable[Line], console: Console) -> None:
    """Print a table of all, and what there is to say about each failure."""
    lines = list(lines)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CHECK", no_wrap=True)
    table.add_column("RESULT", no_wrap=True)
    table.add_column("SEEN", overflow="fold")
    for line in lines:
        table.add_row(line.name, Text(line.word, style=STYLES.get(line.outcome, "dim")), line.seen)
    console.print(table)
    for line in lines:
        if line.is_bad:
            _print_failure(line, console)


def _print_failure(line: Line, console: Console) -> None:
    console.print()
    console.print(Text(line.name, style="bold red"), Text(f" {line.statement}"), soft_wrap=True)
    for word, text in (("seen", line.seen), ("why", line.why), ("fix", line.fix)):
        if not text:
            continue
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, width=5)
        grid.add_column(overflow="fold")
        grid.add_row(Text(word, style="dim"), text)
        console.print(Padding(grid, (0, 0, 0, 2)))
