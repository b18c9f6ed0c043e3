"""Scan: read the entry points of the installed packages, without importing any of them."""

from __future__ import annotations

import logging
import site
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from importlib_metadata import Distribution, PackageMetadata, distributions
from packaging.utils import canonicalize_name

from plugrad.paths import SearchFolder

logger = logging.getLogger("plugrad")

Kind = Literal["loss", "advantage", "metric", "environment", "extension"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GROUPS: dict[str, Kind] = {
    "plugrad.losses": "loss",
    "plugrad.advantages": "advantage",
    "plugrad.metrics": "metric",
    "plugrad.environments": "environment",
    "plugrad.extensions": "extension",
}
CORE = "plugrad"


@dataclass(frozen=True)
class Entry:
    """One entry point of an installed package: a component that may be referred to by name."""

    kind: Kind
    name: str
    package: str
    version: str
    target: str
    """`module:attribute`."""
    summary: str
    """The package's one-line summary."""
    location: str
    """The folder on `sys.path` in which the package's metadata lies."""
    distribution: Distribution = field(compare=False, repr=False)

    @property
    def owner(self) -> str:
        """The package and its version, as error messages name it."""
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Catalogue:
    """What a scan found."""

    entries: tuple[Entry, ...]
    refused: tuple[Entry, ...] = ()
    """Entries of distributions that lie in the working directory. A rollout that can write files must not be able to
    install a loss, so these are never used."""
    copies: tuple[Entry, ...] = ()
    """Entries of further copies of packages that are in `entries`; never used."""

    def of_kind(self, kind: Kind) -> list[Entry]:
        """Return the entries of one kind: core's first, then by package and name."""
        found = [entry for entry in self.entries if entry.kind == kind]
        return sorted(found, key=lambda entry: (entry.package != CORE, entry.package, entry.name))


def scan(refused_folders: Iterable[Path] = ()) -> Catalogue:
    """Read the entry points found on `sys.path`, but for those in the working directory and in `refused_folders`."""
    untrusted = {folder.resolve() for folder in (Path.cwd(), *refused_folders)} - _site_folders()

    def is_trusted(entry: str) -> bool:
        return Path(entry).resolve() not in untrusted and not isinstance(entry, SearchFolder)

    # A folder that is on the path twice holds each package once.
    folders: dict[Path, str] = {}
    for entry in sys.path:
        folders.setdefault(Path(entry).resolve(), entry)
    trusted_path = [entry for entry in folders.values() if is_trusted(entry)]
    untrusted_path = [entry for entry in folders.values() if not is_trusted(entry)]
    entries, copies = _entries(trusted_path)
    refused, _ = _entries(untrusted_path)
    return Catalogue(tuple(entries), tuple(refused), tuple(copies))


def _entries(path: list[str]) -> tuple[list[Entry], list[Entry]]:
    """Return the entries of each package, and those of its further copies on the path."""
    entries: dict[str, list[Entry]] = {}
    copies: list[Entry] = []
    for distribution in cast(Iterable[Distribution], distributions(path=path)):
        # Most distributions offer nothing to us: do not parse their metadata.
        if "[plugrad." not in (distribution.read_text("entry_points.txt") or ""):
            continue
        try:
            # Once: every access to a distribution's name, version or metadata reads and parses the file anew.
            metadata = distribution.metadata
            package = canonicalize_name(metadata["Name"])
            found = _entries_of(distribution, package, metadata)
            # The first distribution of a name wins, as it does for `import`.
            if entries.setdefault(package, found) is not found:
                copies += found
        except Exception as error:
            # An interrupted install leaves such a thing behind, and it must not stop those who do not use it.
            where = getattr(distribution, "_path", distribution.locate_file(""))
            logger.warning("A package is left out, since its metadata cannot be read: %s (%s)", where, error)
    return [entry for found in entries.values() for entry in found], copies


def _entries_of(distribution: Distribution, package: str, metadata: PackageMetadata) -> list[Entry]:
    return [
        Entry(
            kind=GROUPS[point.group],
            name=point.name,
            package=package,
            version=metadata["Version"],
            target=point.value,
            summary=metadata.get("Summary") or "",
            location=str(distribution.locate_file("")),
            distribution=distribution,
        )
        for point in distribution.entry_points
        if point.group in GROUPS
    ]


def _site_folders() -> set[Path]:
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return {Path(folder).resolve() for folder in folders}
