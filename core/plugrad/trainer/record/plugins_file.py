"""Read `plugins.json` of an earlier run: somebody may have changed it since."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from plugrad.json_text import parse_json
from plugrad.paths import read_bytes

TEXTS, OPTIONAL_TEXTS = ("kind", "reference", "target"), ("package", "version", "location", "sha256", "set")
"""Keys of a component."""


def read_plugins(path: Path) -> dict[str, Any]:
    """Return the record of a run's plugins.

    Raises:
        ValueError: the file cannot be read, or is not such a record.
    """
    try:
        # An older plugrad wrote Python's constants.
        record = parse_json(read_bytes(path), has_constants=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error
    if not _is_record(record):
        raise ValueError(f"{path.name} is not the record of a run")
    found: dict[str, Any] = record
    return found


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and _all(record.get("versions"), dict, _is_optional_text)
        and _all(record.get("components"), list, _is_component)
        and _are_sums(record.get("modules", {}))
        and _is_origin(record.get("origin"))
        and isinstance(record.get("num_processes", 1), int)
    )


def _is_component(component: Any) -> bool:
    return (
        isinstance(component, dict)
        and all(isinstance(component.get(key), str) for key in TEXTS)
        and all(_is_optional_text(component.get(key)) for key in OPTIONAL_TEXTS)
        and isinstance(component.get("options", {}), dict)
        and _are_sums(component.get("files", {}))
        and _is_origin(component.get("origin"))
    )


def _is_origin(origin: Any) -> bool:
    parts = ("vcs_info", "archive_info", "dir_info")
    return origin is None or (isinstance(origin, dict) and all(isinstance(origin.get(part) or {}, dict) for part in parts))


def _is_optional_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_sums(values: Any) -> bool:
    return _all(values, dict, lambda total: isinstance(total, str))


def _all(values: Any, container: type, is_valid: Callable[[Any], bool]) -> bool:
    items = values.values() if isinstance(values, dict) else values
    return isinstance(values, container) and all(is_valid(item) for item in items)
