"""Overrides of run-file keys: `table.key=value`, as after `--set`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from plugrad.errors import RunFileError
from plugrad.secret_texts import find_secret, find_secret_argument
from plugrad.shown import LIMIT, printable, shown

DEEPEST = 100


@dataclass(frozen=True)
class Override:
    """The text of an override and the option it followed. Messages repeat both."""

    text: str
    option: str = "--set"

    @property
    def key(self) -> list[str]:
        """The parts of the key.

        Raises:
            RunFileError: the key or the value is missing.
        """
        key, equals, _ = self.text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts) or len(parts) > DEEPEST:
            raise RunFileError(f"{self}: write {self.option} table.key=value, as in {self.option} loss.kwargs.clip_eps=0.1.")
        return parts

    @property
    def value(self) -> Any:
        """The value: parsed as TOML if possible, otherwise the text itself."""
        return self._toml(self.text.partition("=")[2].strip())

    def apply(self, tables: dict[str, Any]) -> None:
        """Set the key in `tables`.

        Raises:
            RunFileError: the key leads to no table, or to several.
        """
        self.table_in(tables)[self.key[-1]] = self.value

    def table_in(self, tables: dict[str, Any]) -> dict[str, Any]:
        """Return the table that holds the key, and create it if it is missing.

        A number or a name in the key selects one of several tables.

        Raises:
            RunFileError: the key leads to no table, or to several.
        """
        parts = self.key
        table: Any = tables
        for depth, part in enumerate(parts[:-1]):
            table = self._step_into(table, part, parts[: depth + 1])
        return self._only_table(table, parts[:-1])

    def _step_into(self, table: Any, part: str, sofar: list[str]) -> Any:
        if isinstance(table, list) and part in map(str, range(len(table))):
            return table[int(part)]
        if isinstance(table, list) and any(_is_called(item, part) for item in table):
            return next(item for item in table if _is_called(item, part))
        found = self._only_table(table, sofar[:-1]).setdefault(part, {})
        if not isinstance(found, dict | list):
            raise RunFileError(f"{self}: {printable('.'.join(sofar))} is {shown(found)}, not a table.")
        return found

    def _only_table(self, table: Any, sofar: list[str]) -> dict[str, Any]:
        only = table[0] if isinstance(table, list) and len(table) == 1 else table
        if isinstance(only, dict):
            return only
        where = printable(".".join(sofar))
        names = [item.get("name") for item in table if isinstance(item, dict)] if isinstance(table, list) else []
        if not names:
            raise RunFileError(f"{self}: {where} is {shown(table)}, not a table.")
        raise RunFileError(
            f"{self}: there are {len(table)} [[{where}]] tables. Select one by number or name: "
            f"{printable(', '.join(f'{where}.{index} ({name})' for index, name in enumerate(names)), 2 * LIMIT)}."
        )

    def _toml(self, text: str) -> Any:
        try:
            return toml_value(text)
        except (ValueError, RecursionError) as error:
            raise RunFileError(f"{self}: its value cannot be read: {printable(error)}.") from error

    def __str__(self) -> str:
        key, equals, value = self.text.partition("=")
        is_secret = find_secret(key, value) or find_secret_argument(value.split())
        return f"{self.option} {shown(f'{key}{equals}...' if is_secret else self.text)}"


def toml_value(text: str) -> Any:
    """Parse a value as TOML. Text that is not one value of TOML and nothing else is a string, so it needs no quotes.

    Raises:
        ValueError: it is a number of more digits than Python reads.
        RecursionError: it is nested too deeply.
    """
    try:
        alone = tomllib.loads(f"value = {text}")
        # In brackets neither a second line nor a comment can follow it: they would be dropped.
        listed = tomllib.loads(f"value = [{text}]")
    except tomllib.TOMLDecodeError:
        return text
    return alone["value"] if len(alone) == len(listed) == len(listed["value"]) == 1 else text


def _is_called(table: Any, name: str) -> bool:
    return isinstance(table, dict) and table.get("name") == name
