"""Resolve: find the one component that a reference means, and import that one alone."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from packaging.utils import canonicalize_name

from plugrad.contracts import markers
from plugrad.errors import PluginError, did_you_mean, with_article
from plugrad.paths import exists, find_file, working_directory
from plugrad.registry import local_modules
from plugrad.registry.blame import Blamed, told
from plugrad.registry.compatibility import check_package
from plugrad.registry.disable import check_enabled
from plugrad.registry.known_packages import known_elsewhere
from plugrad.registry.local_modules import LOCAL
from plugrad.registry.scan import CORE, Catalogue, Entry, Kind
from plugrad.registry.wording import MOST, some_of
from plugrad.shown import shown

logger = logging.getLogger("plugrad")

NUMBERS = {2: "two", 3: "three", 4: "four"}
REFERENCE_FORMS = "`name`, `package/name`, `module:function` or `file.py:function`"
OWN_FORMS = "`module:Class` or `file.py:Class`"


@dataclass(frozen=True)
class Source:
    """The one component that a reference means, not yet imported."""

    kind: Kind | Literal["function", "optimizer", "schedule"]
    reference: str
    """As recorded: a file has its absolute path."""
    name: str
    target: str
    """`module:attribute`, or `/path/to/file.py:attribute`."""
    entry: Entry | None = None

    @property
    def package(self) -> str | None:
        """The package that offers the component; None for the user's own file or module."""
        return self.entry.package if self.entry else None

    @property
    def owner(self) -> str:
        """The owner named in error messages: package and version, or the user's file or module."""
        return self.entry.owner if self.entry else self.target.rpartition(":")[0]

    @property
    def options_in(self) -> str:
        """The table of the run file that holds its options."""
        return "optimizer.schedule_kwargs" if self.kind == "schedule" else f"{self.kind}.kwargs"

    def __str__(self) -> str:
        return f"the {self.kind} {self.name!r} ({self.owner})"


def resolve(kind: Kind, reference: str, catalogue: Catalogue, folders: Sequence[Path] = ()) -> Source:
    """Find what `reference` means: `name`, `package/name`, `module:function` or `file.py:function`.

    Files are looked up in `folders` in order. A bare name that core offers is always core's.

    Raises:
        PluginError: no component or more than one has that name, or its package does not support this plugrad.
    """
    if ":" in reference:
        source = resolve_own(kind, reference, folders)
        check_enabled(kind, source.target, catalogue)
        return source
    package, _, name = reference.rpartition("/")
    if not name or name.endswith(".py"):
        raise PluginError(f"{shown(reference)} is not a reference to {with_article(kind)}. Write {REFERENCE_FORMS}.")
    check_enabled(kind, reference, catalogue)
    named = [entry for entry in catalogue.of_kind(kind) if entry.name == name]
    if package:
        named = [entry for entry in named if entry.package == canonicalize_name(package)]
    # Core's names cannot be shadowed, and `of_kind` lists core first.
    if named and (len(named) == 1 or (named[0].package == CORE and not package)):
        check_package(named[0], catalogue)
        for other in named[1 : 1 + MOST]:
            written = f"{other.package}/{name}"
            logger.info("%r is core's %s. For the one from %s, write %r.", name, kind, other.owner, written)
        return Source(kind, reference, name, named[0].target, named[0])
    if named:
        raise PluginError(_ambiguous(kind, name, named))
    raise PluginError(_not_found(kind, reference, name, catalogue))


def load(source: Source) -> Any:
    """Import the component, and nothing else.

    Raises:
        PluginError: it fails to import, does not exist, or is not callable. The message has file and line of the failure.
    """
    location, _, attribute = source.target.rpartition(":")
    # A module's own `__getattr__` and a lazy attribute are code of the plugin, too.
    with Blamed(str(source), lambda error: _cannot_be_imported(source, location, error)):
        return _find(source, location, attribute)


def _find(source: Source, location: str, attribute: str) -> Any:
    module = import_location(location)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in vars(module) if not name.startswith("_")]
            raise PluginError(
                f"{source} points to {source.target!r}, but {location} has no {attribute!r}."
                f"{did_you_mean(attribute, public)} {_remedy(source)}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise PluginError(
            f"{source} points to {source.target!r}, which is not callable but of type {type(found).__name__}. "
            f"Point to a function or a class. {_remedy(source)}"
        )
    return found


def resolve_callable(reference: str, folders: Sequence[Path] | None = None) -> Callable[..., Any]:
    """Return the function that `module:function` or `file.py:function` names.

    Args:
        reference: `module:function` or `file.py:function`.
        folders: where to look for the file or module; by default the working directory.

    Raises:
        PluginError: it does not exist, fails to import, or is not callable.
    """
    if ":" not in reference:
        raise PluginError(f"{shown(reference)} does not name a function. Write `module:function` or `file.py:function`.")
    folders = [working_directory()] if folders is None else folders
    source = resolve_own("function", reference, folders)
    search_modules_in(folders)
    found: Callable[..., Any] = load(source)
    return found


def absolute_reference(reference: str, folders: Sequence[Path]) -> str:
    """Return `file.py:function` with its absolute path if the file is in one of `folders`; else `reference` as it is."""
    location, _, attribute = reference.rpartition(":")
    if not location.endswith(".py"):
        return reference
    path = find_file(location, folders)
    return f"{path}:{attribute}" if path else reference


def search_modules_in(folders: Sequence[Path]) -> None:
    """Let `module:function` find modules in `folders`. No other import finds them there, except in such a module."""
    LOCAL.folders += [folder for folder in map(str, folders) if folder not in LOCAL.folders]


def resolve_own(kind: Kind | Literal["function", "optimizer"], reference: str, folders: Sequence[Path]) -> Source:
    """Find what `module:attribute` or `file.py:attribute` means, without importing it.

    Raises:
        PluginError: it is neither, or there is no such file.
    """
    location, _, attribute = reference.rpartition(":")
    forms = OWN_FORMS if kind == "optimizer" else REFERENCE_FORMS
    if not location or not all(part.isidentifier() for part in attribute.split(".")):
        raise PluginError(f"{shown(reference)} is not a reference to {with_article(kind)}. Write {forms}.")
    absolute = absolute_reference(reference, folders)
    file = Path(absolute.rpartition(":")[0])
    if location.endswith(".py") and not (exists(file) and file.is_file()):
        if exists(file):
            raise PluginError(f"{shown(reference)} names {shown(str(file))}, which is no regular file. Name one.")
        looked_in = ", ".join(dict.fromkeys(map(str, folders))) or "no folder"
        raise PluginError(f"{shown(reference)} names a file that does not exist: {shown(location)}. Looked in: {looked_in}.")
    return Source(kind, absolute, attribute.rpartition(".")[2], absolute)


def import_location(location: str) -> ModuleType:
    """Import a file, by its absolute path, or a module. One that is imported already is returned as it is."""
    return LOCAL.import_file(Path(location)) if location.endswith(".py") else LOCAL.import_module(location)


def _cannot_be_imported(source: Source, location: str, error: BaseException) -> PluginError:
    return PluginError(f"{source} cannot be imported: {_reason(error, location)}. {_remedy(source)}")


def _reason(error: BaseException, location: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and location.partition(".")[0] == error.name:
        folders = ", ".join(LOCAL.folders) or "the working directory"
        return f"there is no module {error.name!r}, neither installed nor in {folders}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    if "no known parent package" in str(error):
        return (
            f"{told(error)} ({_where(error, location)}). A file of a package is named by its module, from the folder "
            "that has the package: package.module:function"
        )
    return f"{told(error)} ({_where(error, location)})"


def _where(error: BaseException, location: str) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    # A marker such as @loss raises in plugrad; the author's line is the one that calls it.
    ours = (__file__, local_modules.__file__, markers.__file__)
    theirs = [frame for frame in frames if frame.filename not in ours]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else f"module {location!r}"


def _remedy(source: Source) -> str:
    if source.entry:
        return (
            f"The fault is in {source.entry.package}: reinstall it, install another version, or select another "
            f"{source.kind}. --traceback shows the full error."
        )
    return "Fix the reference or the file. --traceback shows the full error."


def _ambiguous(kind: Kind, name: str, entries: list[Entry]) -> str:
    choices = [f'    name = "{entry.package}/{name}"' for entry in entries[:MOST]]
    width = max(map(len, choices))
    lines = [f"{choice:<{width}}    # {entry.owner}" for choice, entry in zip(choices, entries, strict=False)]
    lines += [f"    ... and {len(entries) - MOST:,} more"] * (len(entries) > MOST)
    number = NUMBERS.get(len(entries), str(len(entries)))
    return "\n".join([f"{number} packages offer the {kind} {name!r}. Name one of them in the run file:", *lines])


def _not_found(kind: Kind, reference: str, name: str, catalogue: Catalogue) -> str:
    entries = catalogue.of_kind(kind)
    package = canonicalize_name(reference.rpartition("/")[0])
    by_name = {entry.name: entry for entry in reversed(entries) if package in ("", entry.package)}
    hint = did_you_mean(name, by_name)
    if hint:
        near = next(entry for known, entry in by_name.items() if repr(known) in hint)
        hint = hint.replace("?", f" ({near.owner})?")
    offering = [repr(f"{entry.package}/{name}") for entry in entries if entry.name == name]
    if offering:
        hint = f" There is {some_of(offering, ' and ')}."
    other = next((entry for entry in catalogue.entries if entry.name == name and entry.kind != kind), None)
    if other:
        hint = f" There is {with_article(other.kind)} with that name ({other.owner})."
    refused = next((entry for entry in catalogue.refused if entry.name == name and entry.kind == kind), None)
    if refused:
        hint = (
            f" {refused.owner} offers it, but is in {refused.location}: packages in the working directory are "
            "refused, because a run can write there. Install it with pip, or start from another folder."
        )
    hint = hint or known_elsewhere(kind, name)
    known = f" Installed: {some_of(sorted(by_name), most=100)}." if by_name and not hint else ""
    return f"no {kind} is called {shown(reference)}.{hint}{known} `plugrad plugins list` shows what is installed."
