"""The names of a new package and its component, and the names that are not available."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from importlib_metadata import PackageNotFoundError, distribution
from packaging.utils import canonicalize_name

from plugrad.errors import PluginError, did_you_mean, with_article
from plugrad.registry.scan import CORE, GROUPS, KINDS, Catalogue, Entry, Kind

NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
LONGEST = 32
CLASSES: frozenset[Kind] = frozenset({"environment", "extension"})
"""The kinds that are written as a class."""


@dataclass(frozen=True)
class Names:
    """The names of a package with one component, all derived from the component's name."""

    kind: Kind
    name: str
    """As in run files: `my_idea`."""
    own_target: str | None = None
    """What the user has written already: `focal_loss:FocalLoss`, the module within the package and the attribute there."""

    @property
    def package(self) -> str:
        """As in pip: `plugrad-my-idea`."""
        return f"{CORE}-{canonicalize_name(self.name)}"

    @property
    def module(self) -> str:
        """As in Python imports: `plugrad_my_idea`."""
        return f"{CORE}_{self.name}"

    @property
    def path(self) -> str:
        """The component's module within the package: `my_idea`."""
        return self.own_target.partition(":")[0] if self.own_target else self.name

    @property
    def attribute(self) -> str:
        """The function `my_idea`, or the class `MyIdea`."""
        if self.own_target:
            return self.own_target.partition(":")[2]
        return "".join(map(str.capitalize, self.name.split("_"))) if self.kind in CLASSES else self.name

    @property
    def group(self) -> str:
        """The entry-point group: `plugrad.losses`."""
        return next(group for group, kind in GROUPS.items() if kind == self.kind)

    @property
    def words(self) -> dict[str, str]:
        """All names, for the templates, plus `a_kind`: "a loss"."""
        made = {each: getattr(self, each) for each in ("kind", "name", "package", "module", "path", "attribute", "group")}
        a_kind = with_article(self.kind)
        return {**made, "a_kind": a_kind, "a_kind_in_a_name": a_kind.replace(" ", "_")}

    @classmethod
    def checked(cls, kind: str, name: str, catalogue: Catalogue) -> Names:
        """Return the names for a kind and a name that a user typed.

        Raises:
            PluginError: the kind does not exist, or the name is invalid or taken.
        """
        names = cls(_checked_kind(kind), name)
        _check_spelling(names)
        _check_not_pythons(names)
        _check_free(names, catalogue)
        return names

    def check_not_among(self, identifiers: Collection[str]) -> None:
        """Check that the generated code does not use the component's name for something else.

        Raises:
            PluginError: it does.
        """
        if self.attribute in identifiers:
            raise _refused(self, f"the generated code uses {self.attribute!r} for something else")


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
            f"the limit is {LONGEST}. Choose a shorter one."
        )
    spelt = respelt(names.name)[:LONGEST].rstrip("_")
    hint = f"Write {spelt!r}." if spelt else "Write one such as 'my_idea'."
    raise PluginError(
        f"{names.name!r} cannot be the name of {with_article(names.kind)}: a name consists of lowercase letters, digits "
        f"and single underscores, and starts with a letter. {hint}"
    )


def respelt(name: str) -> str:
    """Return the nearest valid name: `MyIdea-2` becomes `my_idea_2`, `KLIdée` becomes `kl_idee`, and `!` nothing."""
    without_accents = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    in_parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", without_accents)
    plain = re.sub(r"[^a-z0-9]+", "_", in_parts.lower()).strip("_")
    return f"my_{plain}" if plain[:1].isdigit() else plain


def _check_not_pythons(names: Names) -> None:
    of_python = {
        "a Python keyword": {*keyword.kwlist, *keyword.softkwlist},
        "a Python builtin": set(dir(builtins)),
        "a module of Python's standard library": sys.stdlib_module_names,
    }
    for what, taken in of_python.items():
        if names.name in taken:
            raise _refused(names, f"it is {what}")


def _check_free(names: Names, catalogue: Catalogue) -> None:
    offering = [entry for entry in catalogue.of_kind(names.kind) if entry.name == names.name]
    if offering and offering[0].package == CORE:
        raise _refused(
            names, f"{offering[0].owner} has {with_article(names.kind)} of that name, and core names cannot be shadowed"
        )
    if offering:
        raise PluginError(_taken(names, offering[0]))
    try:
        installed = distribution(names.package)
    except PackageNotFoundError:
        return
    raise _refused(names, f"its package would be {names.package}, but {names.package} {installed.version} is installed")


def _taken(names: Names, entry: Entry) -> str:
    return (
        f"{names.name!r} is taken: {entry.owner}, installed in {entry.location}, offers "
        f"{with_article(names.kind)} of that name, so run files would have to name the package. Choose another name. "
        f"If {entry.package} is yours, keep working on it there."
    )


def _refused(names: Names, reason: str) -> PluginError:
    return PluginError(
        f"{names.name!r} cannot be the name of {with_article(names.kind)}: {reason}. Choose another name, such as "
        f"{f'my_{names.name}'[:LONGEST].rstrip('_')!r}."
    )
