"""Provenance: the record of what was resolved, from where, and with which options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from importlib_metadata import PackageNotFoundError, version

from plugrad.registry.bind import Component

RECORDED_PACKAGES = ("plugrad", "pluggy", "torch", "transformers", "accelerate")


def record(components: Iterable[Component]) -> dict[str, Any]:
    """Return a JSON-able record of the components and of the versions they ran with."""
    return {"versions": _versions(), "components": [_record_component(component) for component in components]}


def plain(value: Any) -> Any:
    """Return an option's value as JSON and TOML can hold it."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value) if isinstance(value, Path) else repr(value)


def _record_component(component: Component) -> dict[str, Any]:
    source, entry = component.source, component.source.entry
    return {
        "kind": source.kind,
        "reference": source.reference,
        "package": entry.package if entry else None,
        "version": entry.version if entry else None,
        "target": source.target,
        "location": entry.location if entry else _file_of(component),
        "sha256": _digest(_file_of(component)),
        "options": plain(dict(component.options)),
    }


def _file_of(component: Component) -> str | None:
    try:
        return inspect.getsourcefile(component.target)
    except TypeError:
        return None


def _digest(file: str | None) -> str | None:
    """Return the SHA-256 of the source file: two machines with the same version may still have edited it."""
    try:
        return sha256(Path(file).read_bytes()).hexdigest() if file else None
    except OSError:
        return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
