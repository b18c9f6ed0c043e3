"""Seconds of repeated calls, for every benchmark. Figures are medians; they are shown and never asserted."""

import sys
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from time import perf_counter

from rich.console import Console
from rich.table import Table

# Where there is no terminal, figures are not cut to the width of one.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def in_turn(candidates: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Call every candidate once a round, and return the seconds of each; the first `warm_up` rounds are not counted.

    In turn, since a moment in which the machine is busy then slows every candidate alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(-warm_up, rounds):
        for name, call in candidates.items():
            taken = seconds_of(call)
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started = perf_counter()
    call()
    return perf_counter() - started


def middle_half(values: list[float], form: str, scale: float = 1.0) -> str:
    """Return the quartiles between which half of the values lie."""
    low, _, high = quantiles(values, n=4)
    return f"{scale * low:{form}} to {scale * high:{form}}"


def against_goal(values: list[float], goal: float | None, form: str, unit: str) -> str:
    """Return the goal and whether the median meets it."""
    if goal is None:
        return ""
    return f"at most {goal:{form}} {unit}: " + ("met" if median(values) <= goal else "[red]missed[/red]")


def new_table(*columns: str) -> Table:
    """Return a table whose first column holds names and whose other ones hold figures."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def show(title: str, table: Table) -> None:
    """Print a table under its title."""
    console.print(f"\n{title}", table, sep="\n", markup=False, soft_wrap=True)
