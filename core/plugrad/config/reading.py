"""Read and write the TOML of run files. `run_file` says what the keys mean."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from plugrad.config.tables.table import Table
from plugrad.errors import RunFileError
from plugrad.json_text import decoded
from plugrad.paths import read_bytes, working_directory, write_bytes
from plugrad.shown import printable, shown

DEEPEST = 100


def read_tables(path: Path) -> dict[str, Any]:
    """Read the tables of a run file without checking them.

    Raises:
        RunFileError: the file is missing or is not TOML.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError as error:
        raise RunFileError(f"there is no run file {shown(str(path))} in {working_directory()}.") from error
    except IsADirectoryError as error:
        there = sorted(each.name for each in path.glob("*.toml"))
        give = f"Give the run file in it: {printable(path / there[0])}" if there else "It holds no run file, which is TOML"
        raise RunFileError(f"{shown(str(path))} is a folder, and not a run file. {give}.") from error
    except (OSError, ValueError) as error:
        raise RunFileError(f"the run file {shown(str(path))} cannot be read: {printable(error)}.") from error
    try:
        text = decoded(content)
    except ValueError as error:
        raise RunFileError(f"the run file {shown(str(path))} {error}.") from error
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not every number of TOML's is one of Python's: it reads no more than 4,300 digits.
        raise RunFileError(f"{printable(path)} is not TOML that can be read: {printable(error)}.") from error


def check_depth(tables: Any) -> None:
    """Check that tables are nested no deeper than everything that walks through them can go.

    Raises:
        RunFileError: they are.
    """
    depth, level = 0, [tables]
    while level:
        depth += 1
        if depth > DEEPEST:
            raise RunFileError(f"tables and lists are nested more than {DEEPEST} deep. Nothing in a run file needs that.")
        parts = (value.values() if isinstance(value, dict) else value for value in level if isinstance(value, dict | list))
        level = [item for each in parts for item in each if isinstance(item, dict | list)]


def write_run_file(run_file: Table, path: Path) -> None:
    """Write every key, including defaults. TOML has no null, so keys that are None are left out, which means the same.

    Raises:
        RunFileError: a value has no form in TOML.
        OSError: the file cannot be written.
    """
    write_bytes(path, as_toml(run_file))


def as_toml(run_file: Table) -> bytes:
    """Return what `write_run_file` writes.

    Raises:
        RunFileError: a value has no form in TOML.
    """
    tables = as_tables(run_file)
    try:
        return tomli_w.dumps(tables).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _has_no_form(error) from error


def as_tables(run_file: Table) -> dict[str, Any]:
    """Return the tables of a run file as TOML holds them: every key except those that are None.

    Raises:
        RunFileError: a value has no form in TOML.
    """
    try:
        tables: dict[str, Any] = _without_none(run_file.model_dump(mode="json"))
    except (ValueError, RecursionError) as error:
        raise _has_no_form(error) from error
    return tables


def _has_no_form(error: Exception) -> RunFileError:
    return RunFileError(
        f"a value of the run file cannot be written, so the run could not be repeated: {printable(error)}. Use what TOML "
        "has: strings, numbers, booleans, dates, and lists and tables of them."
    )


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
