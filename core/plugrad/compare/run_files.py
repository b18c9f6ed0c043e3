"""The run file of an arm: the base run file with the arm's overrides, without keys that no longer apply."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad.compare.arms import Arm
from plugrad.config.override import Override
from plugrad.config.prime_rl import from_prime_rl
from plugrad.config.run_file import RunFile, as_run_file
from plugrad.config.tables.component_tables import LossTable
from plugrad.errors import PluginError, RunFileError
from plugrad.registry.resolve import resolve
from plugrad.registry.scan import KINDS, Catalogue, Kind

OF_THE_COMPONENT = ("kwargs", "reduction")
"""Keys that depend on the component: another one may not have them, or give them another meaning."""


@dataclass(frozen=True)
class LeftOut:
    """Keys of the run file that belong to a component that an arm replaces."""

    table: str
    keys: str
    owner: str


@dataclass(frozen=True)
class BaseRunFile:
    """The run file that every arm starts from."""

    path: Path
    tables: Mapping[str, Any]
    catalogue: Catalogue

    def of_arm(self, arm: Arm) -> tuple[RunFile, list[LeftOut]]:
        """Return the arm's run file, and the keys of the base that were left out of it.

        Raises:
            RunFileError: an override or the resulting run file is invalid.
        """
        tables, left_out = self._with_our_names(), []
        # Names first: dropping the old component's keys must not drop the arm's own options.
        for override in sorted(arm.overrides, key=_is_no_name):
            if not _is_no_name(override):
                left_out += self._leave_out(tables, override)
            override.apply(tables)
        return as_run_file(tables, self.path), left_out

    def _with_our_names(self) -> dict[str, Any]:
        try:
            return from_prime_rl(deepcopy(dict(self.tables)))
        except ValueError as error:
            raise RunFileError(f"{self.path} cannot be used:\n    {error}") from error

    def _leave_out(self, tables: dict[str, Any], override: Override) -> list[LeftOut]:
        kind, table = _kind(override), override.table_in(tables)
        named = table.get("name", LossTable().name if kind == "loss" else None)
        if kind is None or named is None or self._target(kind, named) == self._target(kind, override.value):
            return []
        dropped = [key for key in OF_THE_COMPONENT if table.pop(key, None)]
        return [LeftOut(".".join(override.key[:-1]), " and ".join(dropped), named)] if dropped else []

    def _target(self, kind: Kind, reference: Any) -> Any:
        folders = [Path(folder) for folder in self.tables.get("search_paths", [self.path.resolve().parent, Path.cwd()])]
        try:
            return resolve(kind, reference, self.catalogue, folders).target
        except (PluginError, TypeError, AttributeError):
            # A wrong name is reported when the run file is checked.
            return reference


def notices_of(left_out: Mapping[str, list[LeftOut]]) -> list[str]:
    """Return a notice for everything that was left out, with the arms that it concerns."""
    arms_of: dict[LeftOut, list[str]] = {}
    for arm, parts in left_out.items():
        for part in parts:
            arms_of.setdefault(part, []).append(arm)
    return [
        f"The {part.keys} of [{part.table}] belong to {part.owner!r} and do not apply to: {', '.join(arms)}. "
        f"To give an arm its own: --arm 'NAME: {part.table}.name=... {part.table}.kwargs.OPTION=...'."
        for part, arms in arms_of.items()
    ]


def _kind(override: Override) -> Kind | None:
    return next((kind for kind in KINDS if kind == override.key[0]), None)


def _is_no_name(override: Override) -> bool:
    return not (_kind(override) and len(override.key) > 1 and override.key[-1] == "name")
