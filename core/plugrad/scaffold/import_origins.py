"""Where a module that the user's code imports comes from: Python, an installed package, or the user's own folders."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from importlib_metadata import Distribution, distributions
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from plugrad.json_text import parse_json
from plugrad.registry.local_modules import LOCAL
from plugrad.registry.metadata_files import read_text
from plugrad.registry.modules import find_in_folders

WITH_EVERY_PLUGIN = ("plugrad", "torch")
"""What a plugin package has anyway: plugrad itself, and what no plugrad goes without."""


@dataclass(frozen=True)
class Origin:
    """Where an imported module comes from. Without any field: from Python, or with plugrad itself."""

    requirement: str | None = None
    """For `dependencies`: the package that has it, from the installed version on."""
    folder: str | None = None
    """The folder of the user's in which the top-level module lies."""
    stray: str | None = None
    """Its file, which belongs to no installed package and lies in none of the user's folders."""
    is_missing: bool = False


@cache
def origin_of_import(module: str, folders: tuple[str, ...]) -> Origin:
    """Return where a module comes from: an installed one, or else one in the first of `folders`. Nothing is imported."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return Origin()
    spec = _installed(top)
    if spec is None:
        local = next((folder for folder in folders if find_in_folders([folder], top)), None)
        return Origin(folder=local, is_missing=local is None)
    file = _file_of(module, spec)
    if file is None:
        return Origin()
    package = _owner(top, file)
    if package is not None:
        name = str(package.metadata["Name"])
        return Origin() if canonicalize_name(name) in WITH_EVERY_PLUGIN else Origin(requirement=_at_least(name, package))
    folder = next((folder for folder in folders if find_in_folders([folder], top)), None)
    return Origin(folder=folder) if folder else Origin(stray=str(file))


def find_dotted(name: str, folders: Sequence[str]) -> ModuleSpec | None:
    """Return where `folders` have a module with a dotted name, or None. Nothing is imported."""
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        spec = find_in_folders(folders, ".".join(parts[:depth]))
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or [])
    return spec


def _installed(top: str) -> ModuleSpec | None:
    """Return what Python's own search finds, without the folders of the user's and what has been imported from there."""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(top, None) if finder is not LOCAL else None
        except Exception:
            # A finder that another package has installed may raise anything.
            continue
        if spec is not None:
            return spec
    return None


def _file_of(module: str, top: ModuleSpec) -> Path | None:
    """Return the file of the innermost module of a dotted name that has one: `google` itself has none."""
    found, spec = top, top
    for depth in range(2, module.count(".") + 2):
        inner = find_in_folders(spec.submodule_search_locations or [], ".".join(module.split(".")[:depth]))
        if inner is None:
            break
        spec = inner
        found = spec if spec.has_location else found
    return Path(found.origin).resolve() if found.has_location and found.origin else None


def _owner(top: str, file: Path) -> Distribution | None:
    """Return the installed package that a module's file belongs to."""
    installed = _installed_packages()
    certainty, package = max(
        ((_records(each, file), each) for each in installed), key=lambda pair: pair[0], default=(0, None)
    )
    return package if certainty else next((each for each in installed if _declares(each, top, file)), None)


@cache
def _installed_packages() -> tuple[Distribution, ...]:
    return tuple(_readable(cast(Iterable[Distribution], distributions())))


def _readable(packages: Iterable[Distribution]) -> Iterator[Distribution]:
    for package in packages:
        try:
            if package.metadata["Name"]:
                yield package
        except Exception:
            # An interrupted installation must not keep anybody from making a package.
            continue


def _records(package: Distribution, file: Path) -> float:
    """Return how surely a file is the package's: infinite if its list has the file, else the depth of the folder above the
    file that `pip install -e` has installed, else 0.
    """
    try:
        folder = Path(str(package.locate_file(""))).resolve()
        if file.is_relative_to(folder):
            listed = f"\n{file.relative_to(folder).as_posix()}," in "\n" + _list_of_files(package)
            return float("inf") if listed else 0
        origin = parse_json(read_text(package, "direct_url.json") or "{}")
        editable = Path(unquote(urlsplit(origin["url"]).path)).resolve() if origin["dir_info"]["editable"] else None
        return len(editable.parts) if editable and file.is_relative_to(editable) else 0
    except Exception:
        return 0


@cache
def _list_of_files(package: Distribution) -> str:
    return read_text(package, "RECORD") or ""


def _declares(package: Distribution, top: str, file: Path) -> bool:
    try:
        folder = Path(str(package.locate_file(""))).resolve()
        return file.is_relative_to(folder) and top in (read_text(package, "top_level.txt") or "").split()
    except Exception:
        return False


def _at_least(name: str, package: Distribution) -> str:
    try:
        # No specifier may have a local version such as 2.6.0+cpu.
        return f"{name}>={Version(package.version).public}"
    except (InvalidVersion, TypeError):
        return name
