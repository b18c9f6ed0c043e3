"""Problems with the installed plugins, found without importing any of them: for `plugrad plugins doctor`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeVar, cast

from importlib_metadata import Distribution, distributions

from plugrad import __version__
from plugrad.errors import did_you_mean, with_article
from plugrad.registry.compatibility import core_required_instead
from plugrad.registry.foreign_entry_points import ForeignEntryPoint
from plugrad.registry.metadata_files import check_files
from plugrad.registry.modules import find_module, may_define, source_of
from plugrad.registry.scan import CORE, GROUPS, Catalogue, Entry, place_of, split_path
from plugrad.registry.status import can_be_written
from plugrad.registry.wording import some_of

Key = TypeVar("Key", bound=Hashable)
Check = Literal[
    "unreadable_metadata",
    "installed_twice",
    "shadowed_copy",
    "in_working_directory",
    "wrong_core",
    "missing_module",
    "missing_attribute",
    "unusable_name",
    "unknown_group",
    "clash",
    "runs_in_vllm",
]
WARNINGS: frozenset[Check] = frozenset({"shadowed_copy", "clash", "runs_in_vllm"})
"""Worth knowing; every other finding is a problem, which keeps something from working."""


@dataclass(frozen=True)
class Finding:
    """One problem, or one thing worth knowing."""

    check: Check
    package: str | None
    """The package it concerns, if that can be read."""
    found: str
    means: str
    remedy: str

    @property
    def is_problem(self) -> bool:
        """Whether it keeps something from working."""
        return self.check not in WARNINGS


def examine(catalogue: Catalogue, foreign: Sequence[ForeignEntryPoint]) -> list[Finding]:
    """Return what is wrong with the packages of a survey, problems first."""
    found = [
        *_unreadable(catalogue),
        *_copies(catalogue),
        *_in_working_directory(catalogue),
        *_wrong_core(catalogue),
        *_missing(catalogue),
        *_unusable_names(catalogue),
        *_named_twice(catalogue),
        *_unknown_groups(point for point in foreign if point.group.startswith("plugrad.")),
        *_clashes(catalogue),
        *_in_vllm(point for point in foreign if not point.group.startswith("plugrad.")),
    ]
    return sorted(found, key=lambda finding: not finding.is_problem)


def _unreadable(catalogue: Catalogue) -> Iterator[Finding]:
    for broken in catalogue.unreadable:
        yield Finding(
            "unreadable_metadata",
            None,
            f"the metadata in {broken.location} cannot be read: {broken.reason}",
            "Its components are left out. An interrupted installation leaves such a folder behind.",
            "Install the package again, or delete that folder.",
        )


def _copies(catalogue: Catalogue) -> Iterator[Finding]:
    path, _ = split_path()
    for package in sorted({entry.package for entry in catalogue.entries}):
        copies = _readable_copies(package, path)
        places = [(str(copy.locate_file("")), copy.version) for copy in copies]
        if len({folder for folder, _ in places}) < len(places):
            folder = next(folder for folder, _ in places if [other for other, _ in places].count(folder) > 1)
            versions = " and ".join(version for other, version in places if other == folder)
            yield Finding(
                "installed_twice",
                package,
                f"{package} is installed twice in {folder}, as {versions}",
                "It is unclear which version the code belongs to, so a run that names one of its components is refused.",
                f"Run `pip uninstall {package}` until nothing is left, then install it again.",
            )
        elif len(places) > 1:
            (folder, version), *later = places
            yield Finding(
                "shadowed_copy",
                package,
                f"{package} is installed in {len(places)} folders: {version} in {folder}, and "
                + some_of([f"{its} in {where}" for where, its in later]),
                f"{version} is used, since its folder comes first on sys.path.",
                f"If the other is left over, delete {some_of([place_of(copy) for copy in copies[1:]], ' and ')}.",
            )


def _readable_copies(package: str, path: list[str]) -> list[Distribution]:
    """Return the copies of a package whose metadata can be read: the others are findings of their own."""
    copies = []
    for copy in cast(Iterable[Distribution], distributions(name=package, path=path)):
        with suppress(Exception):
            check_files(copy)
            if copy.version:
                copies.append(copy)
    return copies


def _in_working_directory(catalogue: Catalogue) -> Iterator[Finding]:
    for (owner, location), entries in groupby(catalogue.refused, key=lambda entry: (entry.owner, entry.location)):
        refused = list(entries)
        yield Finding(
            "in_working_directory",
            refused[0].package,
            f"{owner} is in the working directory, {location}: {_listed(refused)}",
            "It is refused: a run can write there, and a run must not be able to install anything.",
            f"If it is yours, install it (pip install -e .) or start from another folder. If you do not know it, delete "
            f"{place_of(refused[0].distribution)}.",
        )


def _wrong_core(catalogue: Catalogue) -> Iterator[Finding]:
    for package, entries in _by(catalogue.entries, lambda entry: entry.package):
        wanted = core_required_instead(entries[0])
        if wanted:
            yield Finding(
                "wrong_core",
                package,
                f"{entries[0].owner} requires {wanted}, and this is plugrad {__version__}",
                f"A run that names one of its components is refused: {_listed(entries)}.",
                f"Run `pip install --upgrade {package}`, or install a plugrad that it supports: pip install '{wanted}'.",
            )


def _missing(catalogue: Catalogue) -> Iterator[Finding]:
    for entry in catalogue.entries:
        module, colon, attribute = entry.target.partition(":")
        means = f"A run that names {_reference(entry)} cannot import it."
        remedy = f"The fault is in {entry.package}: reinstall it, or install another version of it."
        if find_module(module) is None:
            found = f"{_described(entry)} points to {entry.target!r}, but there is no module {module!r}"
            yield Finding("missing_module", entry.package, found, means, remedy)
        elif not colon:
            found = f"{_described(entry)} points to {entry.target!r}, which is a module and not `module:function`"
            yield Finding("missing_attribute", entry.package, found, means, remedy)
        elif (source := source_of(module)) is not None and not may_define(source, attribute.partition(".")[0]):
            found = f"{_described(entry)} points to {entry.target!r}, but {module} has no {attribute!r}"
            yield Finding("missing_attribute", entry.package, found, means, remedy)


def _unusable_names(catalogue: Catalogue) -> Iterator[Finding]:
    for entry in catalogue.entries:
        if not can_be_written(entry.name):
            yield Finding(
                "unusable_name",
                entry.package,
                f"{entry.owner} has {with_article(entry.kind)} named {entry.name!r}",
                "A run file cannot refer to it: in a reference, a slash, a colon or `.py` means something else.",
                f"Ask its authors for a name of letters, digits and underscores. Until then, write {entry.target!r}.",
            )


def _named_twice(catalogue: Catalogue) -> Iterator[Finding]:
    for (kind, name, package), entries in _by(catalogue.entries, lambda entry: (entry.kind, entry.name, entry.package)):
        if len(entries) > 1:
            yield Finding(
                "unusable_name",
                package,
                f"{entries[0].owner} offers the {kind} {name!r} twice",
                "A run file cannot tell them apart.",
                f"Ask its authors to rename one. Until then, write {some_of([e.target for e in entries], ' or ')}.",
            )


def _unknown_groups(foreign: Iterable[ForeignEntryPoint]) -> Iterator[Finding]:
    for (package, version, group), points in groupby(foreign, key=lambda point: (point.package, point.version, point.group)):
        names = some_of([point.name for point in points])
        yield Finding(
            "unknown_group",
            package,
            f"{package} {version} has entry points in the group {group!r}: {names}",
            f"plugrad has no such group and does not see them.{did_you_mean(group, GROUPS)}",
            f"Ask its authors to correct their pyproject.toml. Groups: {', '.join(GROUPS)}.",
        )


def _clashes(catalogue: Catalogue) -> Iterator[Finding]:
    ordered = sorted(catalogue.entries, key=lambda entry: (entry.package != CORE, entry.package))
    for (kind, name), entries in _by(ordered, lambda entry: (entry.kind, entry.name)):
        if len({entry.package for entry in entries}) == 1:
            continue
        is_cores = entries[0].package == CORE
        to_write = [f'"{entry.package}/{name}" ({entry.owner})' for entry in entries[is_cores:]]
        yield Finding(
            "clash",
            entries[is_cores].package,
            f"the {kind} {name!r} is offered by {some_of([entry.owner for entry in entries], ' and ')}",
            f'"{name}" is core\'s.' if is_cores else f'A run file with only "{name}" is refused.',
            f"Write {some_of(to_write, ' or ')}" + (" for the other." if is_cores else "."),
        )


def _in_vllm(foreign: Iterable[ForeignEntryPoint]) -> Iterator[Finding]:
    for (package, version), points in groupby(foreign, key=lambda point: (point.package, point.version)):
        listed = list(points)
        groups = some_of([f"{point.name} = {point.target} ({point.group})" for point in listed])
        yield Finding(
            "runs_in_vllm",
            package,
            f"{package} {version} has plugins for vLLM: {groups}",
            "A vLLM server that you start yourself loads them in each of its processes, whatever the run file names or "
            "disables. A server that plugrad starts loads only those in rollout.vllm.plugins or rollout.server.plugins.",
            "Start servers with `plugrad serve`, or set the environment variable VLLM_PLUGINS to the names they may load, "
            f"separated by commas. If it is empty, they load none. If you do not want {package}, uninstall it.",
        )


def _by(entries: Iterable[Entry], key: Callable[[Entry], Key]) -> Iterator[tuple[Key, list[Entry]]]:
    found: dict[Key, list[Entry]] = {}
    for entry in entries:
        found.setdefault(key(entry), []).append(entry)
    yield from found.items()


def _listed(entries: Iterable[Entry]) -> str:
    return some_of([f"{entry.kind} {entry.name}" for entry in entries])


def _described(entry: Entry) -> str:
    return f"the {entry.kind} {entry.name!r} of {entry.owner}"


def _reference(entry: Entry) -> str:
    return f"{entry.package}/{entry.name}"
