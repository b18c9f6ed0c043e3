"""The numbers of a comparison: each column of its table, and how it is computed."""

from __future__ import annotations

from _reference.markdown import table
from plugrad.compare.quantities import QUANTITIES


def quantities() -> str:
    """Return a row for each number."""
    rows = [(quantity.heading, f"`{quantity.name}`", quantity.meaning) for quantity in QUANTITIES]
    return table(("column", "in comparison.json", "how it is computed"), rows)
