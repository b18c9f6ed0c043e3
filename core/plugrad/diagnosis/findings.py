"""Findings, and how finders make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from plugrad.contracts.finding import Finding, Severity
from plugrad.contracts.run_records import RunRecords, Series

__all__ = ["Finder", "Finding", "Severity", "around", "number", "steps_of"]

Finder = Callable[[RunRecords], Iterator[Finding]]
"""Looks for one thing in the records. It changes nothing, and finds nothing where the numbers are missing."""


def number(value: float) -> str:
    """Return a number for a sentence: three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def steps_of(series: Series) -> str:
    """Return which steps a series covers."""
    first, last = int(series.steps[0]), int(series.steps[-1])
    return f"step {first}" if first == last else f"steps {first} to {last}"


def around(name: str, series: Series) -> str:
    """Return how a number changed, from the mean of its first quarter to that of its last."""
    first, last = series.first(0.25), series.last(0.25)
    return f"{name} was {number(first.mean())} in {steps_of(first)} and {number(last.mean())} in {steps_of(last)}"
