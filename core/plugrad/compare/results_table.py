"""The table of a comparison, one row per arm, for the terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.table import Table
from rich.text import Text

from plugrad.compare.quantities import QUANTITIES, Quantity, Statistic, share
from plugrad.compare.summary import ArmSummary, Summary

NOTHING = "-"
GAP = 2
OVER_SEEDS = "± is the standard deviation over three seeds or more; of two seeds, both values are shown."
SPREAD = f"{OVER_SEEDS} Differences are paired by seed."
FEW = 2
"""A standard deviation of so few numbers says nothing."""


@dataclass(frozen=True)
class Column:
    """A heading, and a cell for every arm."""

    heading: str
    meaning: str
    cells: list[str]

    @property
    def width(self) -> int:
        """The width of its widest cell."""
        return max(len(self.heading), *map(len, self.cells))


def columns_of(summary: Summary) -> list[Column]:
    """Return the columns, the arms' names first. Numbers that no arm has are left out."""
    names = [arm.name for arm in summary.arms]
    finished = [f"{len(arm.runs)}" if len(arm.runs) == arm.num_planned else _of_planned(arm) for arm in summary.arms]
    found = [column for quantity in QUANTITIES for column in _columns(quantity, summary)]
    return [
        Column("ARM", "what differs from the run file", names),
        Column("SEEDS", "successful runs, of those planned", finished),
        *(column for column in found if set(column.cells) != {NOTHING}),
    ]


def as_text(summary: Summary, width: int) -> Iterator[Table]:
    """Yield the table, split into several if it is wider than the terminal."""
    arms, *columns = columns_of(summary)
    for part in _parts(columns, width - arms.width):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
        for column in (arms, *part):
            table.add_column(column.heading, justify="left" if column is arms else "right", no_wrap=True)
        for row, arm in enumerate(summary.arms):
            table.add_row(*(_styled(column, row, arm) for column in (arms, *part)))
        yield table


def as_markdown(summary: Summary, title: str) -> str:
    """Return the table and the meaning of each column."""
    columns = columns_of(summary)
    rows = [[column.cells[row] for column in columns] for row in range(len(summary.arms))]
    lines = [
        f"# {title}",
        "",
        _row([column.heading for column in columns]),
        _row(["---", *["---:"] * (len(columns) - 1)]),
        *map(_row, rows),
        "",
        SPREAD,
        "",
        *(f"- **{column.heading}**: {column.meaning}." for column in columns),
    ]
    return "\n".join(lines) + "\n"


def _columns(quantity: Quantity, summary: Summary) -> Iterator[Column]:
    shown = [_shown(arm.over_seeds[quantity.name], quantity.shown, quantity.has_spread) for arm in summary.arms]
    yield Column(quantity.heading, quantity.meaning, shown)
    if quantity.is_compared and len(summary.arms) > 1:
        signed = partial(_signed, quantity.shown)
        cells = [_shown(arm.differences.get(quantity.name), signed, has_spread=True) for arm in summary.arms]
        if set(cells) != {NOTHING}:
            meaning = f"{quantity.heading} minus that of {summary.baseline} at the same seed"
            yield Column(f"VS {summary.baseline}", meaning, cells)


def _shown(statistic: Statistic | None, shown: Callable[[float], str], has_spread: bool) -> str:
    if statistic is None:
        return NOTHING
    if not has_spread:
        return shown(statistic.value)
    if statistic.num_seeds == FEW:
        # Half the distance of two numbers is their sample standard deviation over the square root of 2.
        half = (statistic.spread or 0.0) / math.sqrt(FEW)
        return f"{shown(statistic.value)} [{shown(statistic.value - half)}..{shown(statistic.value + half)}]"
    spread = NOTHING if statistic.spread is None else share(statistic.spread)
    return f"{shown(statistic.value)} ± {spread}"


def _signed(shown: Callable[[float], str], value: float) -> str:
    text = shown(abs(value))
    return text if text == shown(0.0) else f"{'+' if value > 0 else '-'}{text}"


def _of_planned(arm: ArmSummary) -> str:
    return f"{len(arm.runs)} of {arm.num_planned}"


def _parts(columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    part: list[Column] = []
    for column in columns:
        if part and sum(GAP + other.width for other in (*part, column)) > width:
            yield part
            part = []
        part.append(column)
    yield part


def _styled(column: Column, row: int, arm: ArmSummary) -> Text:
    cell = column.cells[row]
    if column.heading == "ARM":
        return Text(cell, style="bold")
    if column.heading == "SEEDS" and len(arm.runs) < arm.num_planned:
        return Text(cell, style="yellow")
    if column.heading.startswith("VS "):
        return Text(cell, style={"+": "green", "-": "red"}.get(cell[0], "") if cell != NOTHING else "dim")
    return Text(cell, style="dim" if cell == NOTHING else "")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
