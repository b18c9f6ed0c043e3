"""Which examples a loss counts: those whose columns have some values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ColumnValue = str | int | float | bool


@dataclass(frozen=True)
class Where:
    """The `where` of a loss. An example meets it if every named column has one of its values."""

    columns: Mapping[str, Sequence[ColumnValue]]

    @classmethod
    def of(cls, table: Mapping[str, ColumnValue | Sequence[ColumnValue]]) -> Where:
        """Read the table of a run file: a value, or a list of values of which one is enough."""
        return cls({n: [values] if isinstance(values, ColumnValue) else list(values) for n, values in table.items()})

    def holds(self, example: Mapping[str, Any]) -> bool:
        """Return whether the example meets it. True is not 1."""
        return all(_is_one_of(example.get(name), values) for name, values in self.columns.items())

    def __iter__(self) -> Iterator[str]:
        """Return the names of the columns."""
        return iter(self.columns)

    def __str__(self) -> str:
        """Return it as TOML has it, roughly."""
        each = (
            f"{name} = {_toml(values[0] if len(values) == 1 else list(values))}" for name, values in self.columns.items()
        )
        return "{ " + ", ".join(each) + " }"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_one_of(found: Any, values: Sequence[ColumnValue]) -> bool:
    return any(isinstance(found, bool) == isinstance(value, bool) and bool(found == value) for value in values)
