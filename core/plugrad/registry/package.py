"""Whether the package behind an entry point may be used: it admits this plugrad, and there is one copy of it."""

from __future__ import annotations

import logging

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from plugrad import __version__
from plugrad.errors import PluginError
from plugrad.registry.scan import CORE, Catalogue, Entry

logger = logging.getLogger("plugrad")


def check_package(entry: Entry, catalogue: Catalogue) -> None:
    """Check the package of a selected entry.

    Raises:
        PluginError: it requires another plugrad, or two copies of it lie in one folder.
    """
    wanted = core_required_instead(entry)
    if wanted:
        raise PluginError(
            f"the {entry.kind} {entry.name!r} ({entry.owner}) requires {wanted}, and this is plugrad {__version__}. Install "
            f"a version of {entry.package} that admits it (pip install --upgrade {entry.package}), or that plugrad "
            f"(pip install '{wanted}')."
        )
    _check_copies(entry, [copy for copy in catalogue.copies if copy.package == entry.package])


def core_required_instead(entry: Entry) -> str | None:
    """Return what the entry's package requires of plugrad, as `plugrad>=1`, where this one is not it."""
    for text in entry.requires:
        # Most requirements are of others: do not parse them.
        if not text.lower().startswith(CORE):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        is_core = canonicalize_name(requirement.name) == CORE and entry.package != CORE
        if is_core and applies and not requirement.specifier.contains(__version__, prereleases=True):
            return f"{CORE}{requirement.specifier}"
    return None


def _check_copies(entry: Entry, copies: list[Entry]) -> None:
    beside = next((copy for copy in copies if copy.location == entry.location), None)
    if beside:
        raise PluginError(
            f"{entry.package} is installed twice in {entry.location}, as {entry.version} and {beside.version}, and which of "
            f"them the code belongs to cannot be said. Run `pip uninstall {entry.package}` until nothing is left, then "
            "install it again."
        )
    other = next((copy for copy in copies if copy.version != entry.version), None)
    if other:
        logger.info(
            "%s is installed twice: using %s from %s, and not %s from %s, which comes later on sys.path.",
            entry.package,
            entry.version,
            entry.location,
            other.version,
            other.location,
        )
