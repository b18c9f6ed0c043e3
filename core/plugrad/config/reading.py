"""Reading, overriding and writing run files, with errors that name the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, ValidationError

from plugrad.config.run_file import RunFile
from plugrad.errors import RunFileError, did_you_mean
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
        run_file = RunFile.model_validate(tables)
    except ValidationError as error:
        complaints = dict.fromkeys(_complaint(detail, tables) for detail in error.errors())
        raise RunFileError("\n    ".join([f"{origin} cannot be used:", *complaints])) from error
    return with_absolute_paths(run_file)


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
    return RunFile.model_validate(tables)


def write_run_file(run_file: RunFile, path: Path) -> None:
    """Write every key, defaults included. TOML has no null: a key that is None is left out, which means the same."""
    path.write_text(tomli_w.dumps(_without_none(run_file.model_dump(mode="json"))), encoding="utf-8")


def _apply(tables: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RunFileError(f"--set {override!r}: write --set table.key=value, as in --set loss.kwargs.clip_eps=0.1.")
    table: Any = tables
    for depth, part in enumerate(parts[:-1]):
        table = _step_into(table, part, parts[: depth + 1], override)
    table = _only_table(table, parts[:-1], override)
    table[parts[-1]] = _value(text.strip())


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


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _complaint(detail: Any, tables: Mapping[str, Any]) -> str:
    where = _place(detail["loc"], tables)
    if detail["type"] == "extra_forbidden":
        keys = _keys_of(RunFile, where[:-1])
        table = f"[{'.'.join(where[:-1])}]" if where[:-1] else "a run file"
        hint = did_you_mean(where[-1], keys) or (
            f" There {'are' if len(keys) > 1 else 'is'} {', '.join(keys)}." if keys else ""
        )
        return f"{table} has no key {where[-1]!r}.{hint}"
    if detail["type"] == "missing":
        return f"{'.'.join(where)} is missing: {_meaning(where)}"
    message = detail["msg"].removeprefix("Value error, ")
    found = "" if isinstance(detail["input"], dict) else f" It is {detail['input']!r}."
    hint = did_you_mean(str(detail["input"]), re.findall("'([^']+)'", message)) if detail["type"] == "literal_error" else ""
    return f"{'.'.join(where) or 'the run file'}: {message}.{found}{hint}"


def _place(loc: Sequence[str | int], tables: Mapping[str, Any]) -> list[str]:
    """Return the key that an error is about, as one would write it: a lone [[loss]] needs no number."""
    asked = tables.get(str(loc[0])) if loc else None
    is_alone = not isinstance(asked, list) or len(asked) == 1
    return [str(part) for position, part in enumerate(loc) if not (position == 1 and part == 0 and is_alone)]


def _keys_of(model: type[BaseModel], where: Sequence[str]) -> list[str]:
    inner = _inner(model, where)
    return list(inner.model_fields) if inner else []


def _inner(model: type[BaseModel], where: Sequence[str]) -> type[BaseModel] | None:
    for part in where:
        if part.isdigit():
            continue
        field = model.model_fields.get(part)
        tables = _tables_in(field.annotation) if field else []
        if not tables:
            return None
        model = tables[0]
    return model


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in _tables_in(part)]


def _meaning(where: Sequence[str]) -> str:
    inner = _inner(RunFile, where)
    if inner:
        return (inner.__doc__ or "").split("\n")[0]
    owner = _inner(RunFile, where[:-1])
    return (owner.model_fields[where[-1]].description or "") if owner else ""


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
