"""The config passed to foreign code: a mapping with attributes that records which keys were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NESTED = "."


class MissingKey(KeyError, AttributeError):
    """A key that the config does not have: a KeyError for `config["x"]`, an AttributeError for `config.x`."""

    def __str__(self) -> str:
        return str(self.args[0])


class Config(Mapping[str, Any]):
    """A mapping read as `config.clip`, `config["clip"]` or `config.get("clip", 0.2)`. Nested tables are configs too.

    The user's values override `defaults`, the other system's own defaults, which foreign code relies on.
    """

    def __init__(self, values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        self._values = _nested(dict(defaults or {}), values)
        self._written = _paths(values)
        self._read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        if name not in self._values:
            known = ", ".join(sorted(self._values)) or "no keys"
            raise MissingKey(f"the config has no {name!r}; it has {known}. Set it under kwargs.config.")
        value = self._values[name]
        return _Within(self, name, value) if isinstance(value, Mapping) else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"the config is read-only: {name!r} cannot be set.")
        super().__setattr__(name, value)

    def __contains__(self, name: object) -> bool:
        self._read.add(str(name))
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        # Iterating over the keys reads them all.
        self._read.update(self._values)
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def unread(self) -> list[str]:
        """Return the keys that the user wrote and no code has read, dotted."""
        return sorted(path for path in self._written if not self._was_read(path))

    def _was_read(self, path: str) -> bool:
        return path in self._read

    def _note(self, path: str) -> None:
        self._read.add(path)


class _Within(Config):
    """A nested table. Reads are recorded in the outer config."""

    def __init__(self, outer: Config, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._outer = outer
        self._name = name

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self._note(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        for name in self._values:
            self._note(name)
        return super().__iter__()

    def _note(self, path: str) -> None:
        self._outer._note(f"{self._name}{NESTED}{path}")


def _nested(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `above` merged over `below`, table by table."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[name] = _nested(dict(under), value) if both else value  # type: ignore[arg-type]
    return merged


def _paths(values: Mapping[str, Any]) -> list[str]:
    paths: list[str] = []
    for name, value in values.items():
        paths += [f"{name}{NESTED}{path}" for path in _paths(value)] if isinstance(value, Mapping) else [name]
    return paths
