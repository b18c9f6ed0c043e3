"""What trackers show as the configuration of a run: the resolved run file and the record of the plugins, without secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.config.reading import as_tables
from plugrad.config.run_file import RunFile
from plugrad.json_text import plain
from plugrad.secret_texts import find_secret

HIDDEN = "..."
LONGEST = 500
"""Of a text in one cell."""


def config_of(run_file: RunFile, plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run file's keys, and the record of the plugins under `plugins.json`."""
    found: dict[str, Any] = _without_secrets("", plain({**as_tables(run_file), "plugins.json": plugins}))
    return found


def flattened(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return one table whose keys are joined by dots, with lists as JSON."""
    return dict(_leaves(config, ""))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, bool | int | float | str):
        yield key, value[:LONGEST] if isinstance(value, str) else value
    elif value is not None:
        yield key, json.dumps(value)[:LONGEST]


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(name, inner) for inner in value]
    return HIDDEN if find_secret(name, value) is not None else value
