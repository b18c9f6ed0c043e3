"""Read and write run files. Errors name the key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from plugrad.config.override import Override
from plugrad.config.run_file import RunFile
from plugrad.config.validation_errors import unusable
from plugrad.errors import RunFileError


def read_run_file(path: Path, overrides: Sequence[str] = ()) -> RunFile:
    """Read a run file and apply `key.key=value` overrides.

    `search_paths` defaults to the run file's folder, then the working directory. `output_dir` defaults to `runs/` and the
    run file's name.

    Raises:
        RunFileError: the file is missing, is not TOML, or has a wrong key or value.
    """
    tables = read_tables(path)
    for override in overrides:
        Override(override).apply(tables)
    return as_run_file(tables, path)


def read_tables(path: Path) -> dict[str, Any]:
    """Read the tables of a run file without checking them.

    Raises:
        RunFileError: the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFileError(f"there is no run file {str(path)!r} in {Path.cwd()}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunFileError(f"the run file {str(path)!r} cannot be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise RunFileError(f"{path} is not TOML: {error}.") from error


def as_run_file(tables: Mapping[str, Any], path: Path) -> RunFile:
    """Check the tables of the run file at `path`. Its location sets the default `search_paths` and `output_dir`.

    Raises:
        RunFileError: names every wrong key, with suggestions.
    """
    defaults = {"search_paths": [str(path.resolve().parent), str(Path.cwd())], "output_dir": f"runs/{path.stem}"}
    return validate({**defaults, **tables}, str(path))


def validate(tables: Mapping[str, Any], origin: str) -> RunFile:
    """Check tables and make their paths absolute.

    Raises:
        RunFileError: names every wrong key, with suggestions.
    """
    try:
        return with_absolute_paths(RunFile(**tables))
    except RunFileError as error:
        if isinstance(error.__cause__, ValidationError):
            raise unusable(RunFile, error.__cause__, tables, origin) from error.__cause__
        raise


def with_absolute_paths(run_file: RunFile) -> RunFile:
    """Return the run file with absolute paths, so it means the same from any working directory."""
    folders = [folder.resolve() for folder in run_file.folders]
    return run_file.model_copy(
        update={
            "search_paths": list(dict.fromkeys(map(str, folders))),
            "output_dir": str(Path(run_file.output_dir).expanduser().resolve()),
            "model": run_file.model.with_absolute_paths(folders),
            "rollout": run_file.rollout.with_absolute_paths(folders),
        }
    )


def write_run_file(run_file: RunFile, path: Path) -> None:
    """Write every key, including defaults. TOML has no null, so keys that are None are left out, which means the same."""
    path.write_text(tomli_w.dumps(as_tables(run_file)), encoding="utf-8")


def as_tables(run_file: RunFile) -> dict[str, Any]:
    """Return the tables of a run file as TOML holds them: every key except those that are None."""
    tables: dict[str, Any] = _without_none(run_file.model_dump(mode="json"))
    return tables


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
