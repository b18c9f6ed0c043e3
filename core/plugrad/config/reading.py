"""Reading, overriding and writing run files, with errors that name the key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from plugrad.config.complaints import unusable
from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError
from plugrad.paths import find_file


def read_run_file(path: Path, overrides: Sequence[str] = ()) -> RunFile:
    """Read a run file and apply `key.key=value` overrides.

    Without `search_paths`, files are looked up beside the run file, then in the working directory; without `output_dir`,
    the run folder is `runs/` and the run file's name.

    Raises:
        RunFileError: it is not there, not TOML, or says what cannot be.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFileError(f"there is no run file {str(path)!r} in {Path.cwd()}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"the run file {str(path)!r} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise RunFileError(f"{path} is not TOML: {error}.") from error
    for override in overrides:
        _apply(tables, override)
    tables.setdefault("search_paths", [str(path.resolve().parent), str(Path.cwd())])
    tables.setdefault("output_dir", f"runs/{path.stem}")
    return validate(tables, str(path))


def validate(tables: Mapping[str, Any], origin: str) -> RunFile:
    """Check tables, and make every path in them absolute.

    Raises:
        RunFileError: naming every key that is wrong, with a suggestion.
    """
    try:
        return with_absolute_paths(RunFile(**tables))
    except RunFileError as error:
        if isinstance(error.__cause__, ValidationError):
            raise unusable(RunFile, error.__cause__, tables, origin) from error.__cause__
        raise


def with_absolute_paths(run_file: RunFile) -> RunFile:
    """Return the run file with its folders absolute, so that it means the same from anywhere."""
    folders = [str(folder.resolve()) for folder in run_file.folders]
    tables = run_file.model_dump()
    tables["search_paths"] = list(dict.fromkeys(folders))
    tables["output_dir"] = str(Path(run_file.output_dir).expanduser().resolve())
    for table in (tables["model"], tables["model"]["reference"], tables["model"]["teacher"]):
        if table and table["name"]:
            folder = find_file(table["name"], [Path(folder) for folder in folders])
            table["name"] = str(folder) if folder and folder.is_dir() else table["name"]
    return RunFile(**tables)


def write_run_file(run_file: RunFile, path: Path) -> None:
    """Write every key, defaults included. TOML has no null: a key that is None is left out, which means the same."""
    path.write_text(tomli_w.dumps(as_tables(run_file)), encoding="utf-8")


def as_tables(run_file: RunFile) -> dict[str, Any]:
    """Return a run file as its TOML has it: every key, but for those that are None."""
    tables: dict[str, Any] = _without_none(run_file.model_dump(mode="json"))
    return tables


def _apply(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RunFileError(f"--set {override!r}: write --set table.key=value, as in --set loss.kwargs.clip_eps=0.1.")
    table: Any = tables
    for depth, part in enumerate(parts[:-1]):
        table = _step_into(table, part, parts[: depth + 1], override)
    table = _only_table(table, parts[:-1], override)
    table[parts[-1]] = toml_value(text.strip())


def _step_into(table: Any, part: str, sofar: list[str], override: str) -> Any:
    if isinstance(table, list) and part.isdigit() and int(part) < len(table):
        return table[int(part)]
    if isinstance(table, list) and any(_is_called(item, part) for item in table):
        return next(item for item in table if _is_called(item, part))
    found = _only_table(table, sofar[:-1], override).setdefault(part, {})
    if not isinstance(found, dict | list):
        raise RunFileError(f"--set {override!r}: {'.'.join(sofar)} is {found!r} and not a table.")
    return found


def _only_table(table: Any, sofar: list[str], override: str) -> dict[str, Any]:
    only = table[0] if isinstance(table, list) and len(table) == 1 else table
    if isinstance(only, dict):
        return only
    where = ".".join(sofar)
    names = [item.get("name") for item in table if isinstance(item, dict)] if isinstance(table, list) else []
    if not names:
        raise RunFileError(f"--set {override!r}: {where} is {table!r} and not a table.")
    raise RunFileError(
        f"--set {override!r}: there are {len(table)} [[{where}]] tables. Say which by number or name: "
        f"{', '.join(f'{where}.{index} ({name})' for index, name in enumerate(names))}."
    )


def _is_called(table: Any, name: str) -> bool:
    return isinstance(table, dict) and table.get("name") == name


def toml_value(text: str) -> Any:
    """Return what is written after the `=` of an override: TOML where it is that, else a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
