"""Registries: names under which a file of another system registers its definitions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from plugrad import PluginError, resolve_callable

Target = TypeVar("Target", bound=Callable[..., Any])


class Registry:
    """Definitions that files register on import. `kind` says what they are, as in "SkyRL policy loss"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        """The kind of definition registered here."""
        self._entries: list[tuple[str, Any]] = []

    def register(self, name: Any, target: Target) -> Target:
        """Register `target` under `name`, a string or an enum member."""
        self._entries.append((str(getattr(name, "value", name)), target))
        return target

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return sorted({name for name, _ in self._entries})

    def find(self, reference: str) -> Any:
        """Return what `file.py:name` or `module:name` refers to: a definition there, or one registered under that name.

        Raises:
            PluginError: neither exists. The message lists what is registered.
        """
        try:
            return resolve_callable(reference)
        except PluginError as error:
            location, _, name = reference.rpartition(":")
            if not _is_imported(location, error):
                raise
            found = [target for registered, target in self._entries if registered == name]
            own = [target for target in found if _file_of(target) == _resolved(location)]
            if not found:
                raise self._not_found(error, name) from error
            return (own or found)[-1]

    def named(self, name: Any) -> Any:
        """Return what is registered under a name.

        Raises:
            PluginError: nothing is. The message lists what is registered.
        """
        asked = str(getattr(name, "value", name))
        found = [target for registered, target in self._entries if registered == asked]
        if not found:
            known = ", ".join(self.names()) or "nothing"
            raise PluginError(f"no {self.kind} is registered as {asked!r}. Registered: {known}.")
        return found[-1]

    def _not_found(self, error: PluginError, asked: str) -> PluginError:
        if not self._entries:
            return error
        nearest = get_close_matches(asked, self.names(), n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        return PluginError(f"{error} Registered as a {self.kind}: {', '.join(self.names())}.{hint}")


def _is_imported(location: str, error: PluginError) -> bool:
    """Return whether only the name was not found. A file that does not exist cannot have registered anything."""
    is_there = Path(location).is_file() if location.endswith(".py") else bool(location)
    return is_there and error.__cause__ is None


def _file_of(target: Any) -> Path | None:
    try:
        file = inspect.getsourcefile(inspect.unwrap(target))
    except TypeError:
        return None
    return Path(file).resolve() if file else None


def _resolved(location: str) -> Path:
    return Path(location).resolve()
