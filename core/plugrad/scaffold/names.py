"""What a new package and what is in it are called, and which names cannot be had."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass

from importlib_metadata import PackageNotFoundError, distribution
from packaging.utils import canonicalize_name

from plugrad.errors import PluginError, did_you_mean, with_article
from plugrad.registry.scan import CORE, GROUPS, KINDS, Catalogue, Entry, Kind

NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
LONGEST = 32
CLASSES: frozenset[Kind] = frozenset({"environment", "extension"})
"""Kinds whose component is written as a class."""


@dataclass(frozen=True)
class Names:
    """The names of a package with one component, all made from that component's own."""

    kind: Kind
    name: str
    """As run files say it: `my_idea`."""

    @property
    def package(self) -> str:
        """As pip says it: `plugrad-my-idea`."""
        return f"{CORE}-{canonicalize_name(self.name)}"

    @property
    def module(self) -> str:
        """As Python imports it: `plugrad_my_idea`."""
        return f"{CORE}_{self.name}"

    @property
    def attribute(self) -> str:
        """The function `my_idea`, or the class `MyIdea`."""
        return "".join(map(str.capitalize, self.name.split("_"))) if self.kind in CLASSES else self.name

    @property
    def group(self) -> str:
        """The group of its entry point: `plugrad.losses`."""
        return next(group for group, kind in GROUPS.items() if kind == self.kind)

    @property
    def words(self) -> dict[str, str]:
        """All of them, for templates; and "a loss" besides."""
        made = {each: getattr(self, each) for each in ("kind", "name", "package", "module", "attribute", "group")}
        return {**made, "a_kind": with_article(self.kind)}

    @classmethod
    def checked(cls, kind: str, name: str, catalogue: Catalogue) -> Names:
        """Return the names for a kind and a name as a user typed them.

        Raises:
            PluginError: there is no such kind, the name is none, or it is taken.
        """
        names = cls(_checked_kind(kind), name)
        _check_spelling(names)
        _check_not_pythons(names)
        _check_free(names, catalogue)
        return names

    def check_not_among(self, identifiers: Collection[str]) -> None:
        """Check that the component does not share its name with what the code around it uses.

        Raises:
            PluginError: it does.
        """
        if self.attribute in identifiers:
            raise _refused(self, f"the code that is written uses {self.attribute!r} for something else")


def _checked_kind(kind: str) -> Kind:
    found = next((known for known in KINDS if known == kind), None)
    if found is None:
        hint = did_you_mean(kind, KINDS) or f" Kinds: {', '.join(KINDS)}."
        raise PluginError(
            f"there is no kind {kind!r}.{hint} Write: plugrad new KIND NAME, such as plugrad new loss my_idea."
        )
    return found


def _check_spelling(names: Names) -> None:
    if NAME.fullmatch(names.name) and len(names.name) <= LONGEST:
        return
    if NAME.fullmatch(names.name):
        raise PluginError(
            f"{names.name!r} cannot be the name of {with_article(names.kind)}: it has {len(names.name)} characters, and "
            f"{LONGEST} are the most. Choose a shorter one."
        )
    spelt = _respelt(names.name)
    hint = f"Write {spelt!r}." if spelt else "Write one such as 'my_idea'."
    raise PluginError(
        f"{names.name!r} cannot be the name of {with_article(names.kind)}: a name has small letters, digits and single "
        f"underscores between them, and begins with a letter. {hint}"
    )


def _respelt(name: str) -> str:
    """Return the nearest name that there can be: `MyIdea-2` becomes `my_idea_2`, and `!` nothing."""
    in_parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = re.sub(r"[^a-z0-9]+", "_", in_parts.lower()).strip("_")[:LONGEST].rstrip("_")
    return f"my_{plain}" if plain[:1].isdigit() else plain


def _check_not_pythons(names: Names) -> None:
    of_python = {
        "a keyword of Python": {*keyword.kwlist, *keyword.softkwlist},
        "a name that is built into Python": set(dir(builtins)),
        "a module of Python's standard library": sys.stdlib_module_names,
    }
    for what, taken in of_python.items():
        if names.name in taken:
            raise _refused(names, f"it is {what}")


def _check_free(names: Names, catalogue: Catalogue) -> None:
    offering = [entry for entry in catalogue.of_kind(names.kind) if entry.name == names.name]
    if offering and offering[0].package == CORE:
        raise _refused(
            names, f"it is that of {with_article(names.kind)} of {offering[0].owner}, and core's cannot be shadowed"
        )
    if offering:
        raise PluginError(_taken(names, offering[0]))
    try:
        installed = distribution(names.package)
    except PackageNotFoundError:
        return
    raise _refused(names, f"its package would be {names.package}, and {names.package} {installed.version} is installed")


def _taken(names: Names, entry: Entry) -> str:
    return (
        f"{names.name!r} is taken: {entry.owner}, which is installed in {entry.location}, offers "
        f"{with_article(names.kind)} of that name, and run files would have to say whose they mean. Choose another name. "
        f"If {entry.package} is yours, go on with it where it is."
    )


def _refused(names: Names, reason: str) -> PluginError:
    return PluginError(
        f"{names.name!r} cannot be the name of {with_article(names.kind)}: {reason}. Choose another name, such as "
        f"{f'my_{names.name}'[:LONGEST].rstrip('_')!r}."
    )
