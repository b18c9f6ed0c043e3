"""The status of an installed component: what a run file writes for it, and what keeps it from being used."""

from __future__ import annotations

from dataclasses import dataclass

from plugrad import __version__
from plugrad.registry.compatibility import core_required_instead
from plugrad.registry.scan import CORE, Catalogue, Entry
from plugrad.registry.wording import some_of


@dataclass(frozen=True)
class ComponentStatus:
    """Whether and how a run file can name one component."""

    entry: Entry
    reference: str | None
    """What a run file writes; None where nothing can."""
    rivals: tuple[Entry, ...]
    """The same kind and name from other packages."""
    problem: str | None
    """What keeps it from being used."""

    @property
    def note(self) -> str | None:
        """What a user needs to know first, in one line."""
        if self.problem:
            return f"cannot be used: {self.problem}"
        if self.rivals and self.reference != self.entry.name:
            others = some_of(["core" if rival.package == CORE else rival.package for rival in self.rivals], " and ")
            return f'{others} {"offers" if len(self.rivals) == 1 else "offer"} this name too: write "{self.reference}"'
        return None


def statuses_of(catalogue: Catalogue) -> list[ComponentStatus]:
    """Return the status of every component that a run may use, core's first."""
    same: dict[tuple[str, str], list[Entry]] = {}
    for entry in catalogue.entries:
        same.setdefault((entry.kind, entry.name), []).append(entry)
    twice = {(copy.package, copy.location) for copy in catalogue.copies}
    ordered = sorted(catalogue.entries, key=lambda entry: (entry.package != CORE, entry.package, entry.name))
    return [_status(entry, same[entry.kind, entry.name], twice) for entry in ordered]


def can_be_written(name: str) -> bool:
    """Return whether a run file can refer to this name: a slash, a colon or `.py` would mean something else."""
    return bool(name.strip()) and not any(mark in name for mark in "/:") and not name.endswith(".py")


def _status(entry: Entry, same: list[Entry], twice: set[tuple[str, str]]) -> ComponentStatus:
    rivals = tuple(other for other in same if other is not entry)
    problem = _problem(entry, rivals, twice)
    if problem:
        return ComponentStatus(entry, None, rivals, problem)
    is_plain = not rivals or entry.package == CORE
    return ComponentStatus(entry, entry.name if is_plain else f"{entry.package}/{entry.name}", rivals, None)


def _problem(entry: Entry, rivals: tuple[Entry, ...], twice: set[tuple[str, str]]) -> str | None:
    if not can_be_written(entry.name):
        return "no run file can write this name"
    if any(rival.package == entry.package for rival in rivals):
        return f"{entry.package} offers this name twice"
    if (entry.package, entry.location) in twice:
        return f"{entry.package} is installed twice in one folder"
    wanted = core_required_instead(entry)
    return f"requires {wanted}, and this is plugrad {__version__}" if wanted else None
