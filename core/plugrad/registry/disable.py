"""Disable: take what `plugins.disable` names out of the catalogue, before anything is imported."""

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

    A name that is not installed logs a warning and is not an error, so that a run file works on any machine.

    Raises:
        RunFileError: the kind is unknown.
    """
    disabled: dict[Entry, str] = {}
    for name in disable:
        found = [e for e in catalogue.entries if name in _names_of(e) or canonicalize_name(name) == e.package]
        if not found:
            _warn_not_installed(name, catalogue)
        disabled |= {entry: disabled.get(entry, name) for entry in found}
    return replace(
        catalogue,
        entries=tuple(entry for entry in catalogue.entries if entry not in disabled),
        disabled=tuple(Disabled(entry, by) for entry, by in disabled.items()),
    )


def check_enabled(kind: str, reference: str, catalogue: Catalogue) -> None:
    """Check that a reference does not mean a disabled component.

    If another package offers the same name, the name means that package's component.

    Raises:
        PluginError: it means a disabled component.
    """
    for disabled in catalogue.disabled:
        entry = disabled.entry
        if not _means(kind, reference, entry, by_package="/" not in disabled.by):
            continue
        others = [other for other in catalogue.of_kind(entry.kind) if other.name == reference]
        # Core's names stay core's, even while they are disabled.
        if others and entry.package != CORE:
            continue
        raise PluginError(
            f"the {kind} {reference!r} ({entry.owner}) is disabled: plugins.disable in the run file has {disabled.by!r}. "
            f"Remove that entry, or select another {kind}."
        )


def _means(kind: str, reference: str, entry: Entry, *, by_package: bool) -> bool:
    if ":" not in reference:
        return f"{kind}/{_normalised(reference)}" in _names_of(entry)
    module, own = reference.partition(":")[0], entry.target.partition(":")[0]
    # A disabled component is not imported through its module's name either.
    return reference == entry.target or (by_package and module.partition(".")[0] == own.partition(".")[0])


def _names_of(entry: Entry) -> tuple[str, str]:
    return f"{entry.kind}/{entry.name}", f"{entry.kind}/{entry.package}/{entry.name}"


def _normalised(reference: str) -> str:
    package, slash, name = reference.rpartition("/")
    return f"{canonicalize_name(package)}{slash}{name}"


def _warn_not_installed(asked: str, catalogue: Catalogue) -> None:
    kind, slash, rest = asked.partition("/")
    if slash and kind not in KINDS:
        raise RunFileError(
            f"plugins.disable: {asked!r} has the unknown kind {kind!r}.{did_you_mean(kind, KINDS)} Write a package, or put "
            f"one of {', '.join(KINDS)} before the name, as in {_example(asked, catalogue)!r}."
        )
    names = [
        name for entry in catalogue.entries if entry.kind == kind for name in (entry.name, f"{entry.package}/{entry.name}")
    ]
    near = did_you_mean(rest, names) if slash else did_you_mean(asked, [entry.package for entry in catalogue.entries])
    logger.warning("plugins.disable: no installed plugin is called %r.%s", asked, near)


def _example(asked: str, catalogue: Catalogue) -> str:
    """Return what to write instead of `package/name`, or a made-up example."""
    package, _, name = asked.partition("/")
    for entry in catalogue.entries:
        if (entry.package, entry.name) == (canonicalize_name(package), name):
            return _names_of(entry)[1]
    return f"metric/{name}"
