"""Disable: what a run file's `plugins.disable` names is taken out of the catalogue before anything is imported."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from packaging.utils import canonicalize_name

from plugrad.errors import PluginError, RunFileError, did_you_mean
from plugrad.registry.scan import CORE, KINDS, Catalogue, Disabled, Entry

logger = logging.getLogger("plugrad")


def without(catalogue: Catalogue, disable: Iterable[str]) -> Catalogue:
    """Return the catalogue without what `disable` names: a package, `kind/name` or `kind/package/name`.

    What is not installed cannot be imported either: it gets a notice and no error, so that a run file works on any machine.

    Raises:
        RunFileError: there is no such kind.
    """
    disabled: dict[Entry, str] = {}
    for asked in disable:
        found = [
            entry for entry in catalogue.entries if asked in _names_of(entry) or canonicalize_name(asked) == entry.package
        ]
        if not found:
            _notice(asked, catalogue)
        disabled |= {entry: disabled.get(entry, asked) for entry in found}
    return replace(
        catalogue,
        entries=tuple(entry for entry in catalogue.entries if entry not in disabled),
        disabled=tuple(Disabled(entry, by) for entry, by in disabled.items()),
    )


def check_enabled(kind: str, reference: str, catalogue: Catalogue) -> None:
    """Check that the run file does not both name and disable a component.

    A name that another package offers too means that one's.

    Raises:
        PluginError: it does.
    """
    for disabled in catalogue.disabled:
        entry = disabled.entry
        if not _means(kind, reference, entry, by_package="/" not in disabled.by):
            continue
        others = [other for other in catalogue.of_kind(entry.kind) if other.name == reference]
        # Core's names are core's, also where they are disabled.
        if others and entry.package != CORE:
            continue
        raise PluginError(
            f"the {kind} {reference!r} ({entry.owner}) is disabled: plugins.disable in the run file has {disabled.by!r}. "
            f"Take that out, or select another {kind}."
        )


def _means(kind: str, reference: str, entry: Entry, *, by_package: bool) -> bool:
    if ":" not in reference:
        return f"{kind}/{_normalised(reference)}" in _names_of(entry)
    module, own = reference.partition(":")[0], entry.target.partition(":")[0]
    # What is never to be imported is not imported under its module's name either.
    return reference == entry.target or (by_package and module.partition(".")[0] == own.partition(".")[0])


def _names_of(entry: Entry) -> tuple[str, str]:
    return f"{entry.kind}/{entry.name}", f"{entry.kind}/{entry.package}/{entry.name}"


def _normalised(reference: str) -> str:
    package, slash, name = reference.rpartition("/")
    return f"{canonicalize_name(package)}{slash}{name}"


def _notice(asked: str, catalogue: Catalogue) -> None:
    kind, slash, rest = asked.partition("/")
    if slash and kind not in KINDS:
        raise RunFileError(
            f"plugins.disable: {asked!r} is of the kind {kind!r}, and there is none.{did_you_mean(kind, KINDS)} Write a "
            f"package, or one of {', '.join(KINDS)} before the name, as in {_example(asked, catalogue)!r}."
        )
    names = [
        name for entry in catalogue.entries if entry.kind == kind for name in (entry.name, f"{entry.package}/{entry.name}")
    ]
    near = did_you_mean(rest, names) if slash else did_you_mean(asked, [entry.package for entry in catalogue.entries])
    logger.warning("plugins.disable: no plugin that is installed is called %r.%s", asked, near)


def _example(asked: str, catalogue: Catalogue) -> str:
    """Return what to write for `package/name`, where there is such a thing."""
    package, _, name = asked.partition("/")
    for entry in catalogue.entries:
        if (entry.package, entry.name) == (canonicalize_name(package), name):
            return _names_of(entry)[1]
    return f"metric/{name}"
