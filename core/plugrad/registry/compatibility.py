"""Check the package behind an entry point: it supports this plugrad, and there is one copy of it."""

from __future__ import annotations

import logging

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from plugrad import __version__
from plugrad.errors import PluginError
from plugrad.registry.scan import CORE, Catalogue, Entry

logger = logging.getLogger("plugrad")


def check_package(entry: Entry, catalogue: Catalogue) -> None:
    """Check the package of a selected entry.

    Raises:
        PluginError: it requires another plugrad, or is installed twice in one folder.
    """
    wanted = core_required_instead(entry)
    if wanted:
        raise PluginError(
            f"the {entry.kind} {entry.name!r} ({entry.owner}) requires {wanted}, and this is plugrad {__version__}. Install "
            f"a version of {entry.package} that supports it (pip install --upgrade {entry.package}), or that plugrad "
            f"(pip install '{wanted}')."
        )
    _check_copies(entry, [copy for copy in catalogue.copies if copy.package == entry.package])


def core_required_instead(entry: Entry) -> str | None:
    """Return the plugrad that the entry's package requires, such as `plugrad>=1`, or None if this one will do."""
    for text in entry.requires:
        # Most requirements name other packages: do not parse them.
        if not text.lower().startswith(CORE):
            continue
        try:
            requirement = Requirement(text)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except Exception:
            # A requirement or marker that cannot be read says nothing.
            continue
        is_core = canonicalize_name(requirement.name) == CORE and entry.package != CORE
        if is_core and applies and not requirement.specifier.contains(__version__, prereleases=True):
            return f"{CORE}{requirement.specifier}"
    return None


def _check_copies(entry: Entry, copies: list[Entry]) -> None:
    beside = next((copy for copy in copies if copy.location == entry.location), None)
    if beside:
        raise PluginError(
            f"{entry.package} is installed twice in {entry.location}, as {entry.version} and {beside.version}. It is "
            f"unclear which version the code belongs to. Run `pip uninstall {entry.package}` until nothing is left, then "
            "install it again."
        )
    other = next((copy for copy in copies if copy.version != entry.version), None)
    if other:
        logger.info(
            "%s is installed twice: using %s from %s. %s from %s comes later on sys.path and is not used.",
            entry.package,
            entry.version,
            entry.location,
            other.version,
            other.location,
        )
