"""Scan: read the entry points of the installed packages without importing any of them."""

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

from plugrad.errors import PluginError, did_you_mean
from plugrad.registry.local_modules import LOCAL
from plugrad.registry.metadata_files import check_files, read_text
from plugrad.shown import shown

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


def known_kind(text: str) -> Kind:
    """Return the kind that a user wrote.

    Raises:
        PluginError: the kind is unknown.
    """
    for kind in KINDS:
        if kind == text:
            return kind
    singular = GROUPS.get(f"plugrad.{text}")
    hint = f" Did you mean {singular!r}?" if singular else did_you_mean(str(text), KINDS)
    raise PluginError(f"there is no kind {shown(text)}.{hint} Kinds: {', '.join(KINDS)}.")


@dataclass(frozen=True)
class Entry:
    """One entry point of an installed package: a component that a run file can name."""

    kind: Kind
    name: str
    package: str
    version: str
    target: str
    """`module:attribute`."""
    summary: str
    """The package's one-line summary."""
    location: str
    """The folder on `sys.path` that holds the package's metadata."""
    requires: tuple[str, ...]
    """The package's requirements, as its metadata lists them."""
    distribution: Distribution = field(compare=False, repr=False)

    @property
    def owner(self) -> str:
        """The package and its version, for messages."""
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Unreadable:
    """A distribution whose metadata cannot be read, as an interrupted install leaves it."""

    location: str
    reason: str


@dataclass(frozen=True)
class Disabled:
    """An entry that the run file disables."""

    entry: Entry
    by: str
    """The item of `plugins.disable` that names it."""


@dataclass(frozen=True)
class Catalogue:
    """What a scan found."""

    entries: tuple[Entry, ...]
    refused: tuple[Entry, ...] = ()
    """Entries of distributions in the working directory. A rollout that can write files must not be able to install a
    loss, so these are never used."""
    copies: tuple[Entry, ...] = ()
    """Entries of further copies of packages in `entries`. They are never used."""
    unreadable: tuple[Unreadable, ...] = ()
    disabled: tuple[Disabled, ...] = ()

    def of_kind(self, kind: Kind) -> list[Entry]:
        """Return the entries of one kind: core's first, then by package and name."""
        found = [entry for entry in self.entries if entry.kind == kind]
        return sorted(found, key=lambda entry: (entry.package != CORE, entry.package, entry.name))


def scan(refused_folders: Iterable[Path] = ()) -> Catalogue:
    """Read the entry points on `sys.path`, except those in the working directory, in `refused_folders` and where modules of
    the user's own are found.

    A package with unreadable metadata is left out with a warning: it must not stop a run that does not use it.
    """
    catalogue = survey(refused_folders)
    for left_out in catalogue.unreadable:
        logger.warning(
            "A package is left out because its metadata cannot be read: %s (%s)", left_out.location, left_out.reason
        )
    return catalogue


def survey(refused_folders: Iterable[Path] = ()) -> Catalogue:
    """Do what `scan` does, without warnings."""
    trusted_path, untrusted_path = split_path(refused_folders)
    entries, copies, unreadable = _entries(trusted_path)
    refused, _, _ = _entries(untrusted_path)
    return Catalogue(tuple(entries), tuple(refused), tuple(copies), tuple(unreadable))


def split_path(refused_folders: Iterable[Path] = ()) -> tuple[list[str], list[str]]:
    """Return the trusted folders of `sys.path`, and the untrusted folders, on the path or not; each folder once."""
    refused = [Path.cwd(), *refused_folders, *map(Path, LOCAL.folders)]
    untrusted = {folder.resolve(): str(folder) for folder in reversed(refused)}
    for folder in _site_folders():
        untrusted.pop(folder, None)
    # A folder may be on the path twice; its packages count once.
    trusted: dict[Path, str] = {}
    for entry in sys.path:
        trusted.setdefault(Path(entry).resolve(), entry)
    return [entry for path, entry in trusted.items() if path not in untrusted], list(untrusted.values())


def place_of(distribution: Distribution) -> str:
    """Return the folder or file that holds the metadata."""
    return str(getattr(distribution, "_path", distribution.locate_file("")))


def _entries(path: list[str]) -> tuple[list[Entry], list[Entry], list[Unreadable]]:
    """Return the entries of each package, those of its further copies, and what cannot be read."""
    entries: dict[str, list[Entry]] = {}
    copies: list[Entry] = []
    unreadable: list[Unreadable] = []
    for distribution in cast(Iterable[Distribution], distributions(path=path)):
        try:
            # Most distributions have no plugins: do not parse their metadata.
            if "[plugrad." not in (read_text(distribution, "entry_points.txt") or ""):
                continue
            check_files(distribution)
            # Read once: every access to a distribution's name, version or metadata parses the file again.
            metadata = distribution.metadata
            package = canonicalize_name(metadata["Name"])
            found = _entries_of(distribution, package, metadata)
            # The first distribution of a name wins, as it does for `import`.
            if entries.setdefault(package, found) is not found:
                copies += found
        except Exception as error:
            reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
            unreadable.append(Unreadable(place_of(distribution), reason))
    return [entry for found in entries.values() for entry in found], copies, unreadable


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
            requires=tuple(metadata.get_all("Requires-Dist") or distribution.requires or ()),
            distribution=distribution,
        )
        for point in distribution.entry_points
        if point.group in GROUPS
    ]


def _site_folders() -> set[Path]:
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return {Path(folder).resolve() for folder in folders}
