"""Whose a number is: the numbers of runs, grouped by the component that reports them, each with its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugrad.host.labels import labels_of
from plugrad.report.core_numbers import CORE_NUMBERS, EVALUATION, OF_A_LOSS, OF_THE_ENVIRONMENT, SPEED, SPEEDS, THE_RUN
from plugrad.report.described import Description, description_of
from plugrad.report.reported_run import ReportedRun
from plugrad.report.thinning import thinned
from plugrad.shown import escaped

ORDER = ("", "evaluation", "environment", "loss", "advantage", "metric", "extension", "other", "speed")
"""Kinds of groups, as they follow each other."""


@dataclass(frozen=True)
class Owner:
    """What reports a group of numbers."""

    title: str
    kind: str
    package: str = ""
    description: Description = field(default_factory=Description)

    def caption(self, name: str) -> str:
        """Return what is known about a number."""
        own = name.partition("/")[2]
        told = CORE_NUMBERS.get(name) or self.description.caption(own)
        if told or self.kind not in ("loss", "environment"):
            return told
        return OF_A_LOSS if own == "loss" else OF_THE_ENVIRONMENT if self.kind == "environment" else ""


def name_of(component: Mapping[str, Any]) -> str:
    """Return the name of a recorded component, from which its label is made."""
    reference = component["reference"]
    return str(reference.rpartition(":" if ":" in reference else "/")[2])


def owners_of(plugins: Mapping[str, Any]) -> dict[str, Owner]:
    """Return the owners of the numbers of a run, by what comes before the slash in a number's name."""
    found: dict[str, Owner] = {}
    for kind in ("environment", "advantage", "extension", "metric", "loss"):
        components = [each for each in plugins.get("components", ()) if each["kind"] == kind]
        for component, label in zip(components, labels_of(map(name_of, components)), strict=True):
            package = f"{component['package']} {component.get('version') or ''}" if component.get("package") else ""
            whose = package or str(component["target"]).rpartition(":")[0].rpartition("/")[2]
            prefix = "environment" if kind == "environment" else label
            found[prefix] = Owner(label, kind, whose, description_of(component))
    return found


def groups_of(runs: Sequence[ReportedRun]) -> list[dict[str, Any]]:
    """Return the groups of the page's curves, in their order; a curve for each run, None where a run has no such number."""
    owners: dict[str, Owner] = {}
    for run in runs:
        owners = owners_of(run.plugins) | owners
    grouped: dict[str, list[str]] = {}
    by_title: dict[str, Owner] = {}
    for name in dict.fromkeys(name for run in runs for name in run.curves):
        owner = _owner_of(name, owners)
        by_title.setdefault(owner.title, owner)
        grouped.setdefault(owner.title, []).append(name)
    ordered = sorted(by_title.values(), key=lambda owner: ORDER.index(owner.kind))
    return [_group(owner, grouped[owner.title], runs) for owner in ordered]


def _owner_of(name: str, owners: Mapping[str, Owner]) -> Owner:
    prefix, slash, _ = name.partition("/")
    if name in SPEEDS:
        return Owner(SPEED, "speed")
    if not slash:
        return Owner(THE_RUN, "")
    if prefix == "eval":
        return Owner(EVALUATION, "evaluation")
    return owners.get(prefix, Owner(prefix, "other"))


def _group(owner: Owner, names: Sequence[str], runs: Sequence[ReportedRun]) -> dict[str, Any]:
    numbers = [
        {
            "name": escaped(name),
            "caption": _sentence(escaped(owner.caption(name))),
            "curves": [thinned(run.curves[name]) if name in run.curves else None for run in runs],
        }
        for name in names
    ]
    kind = owner.kind if owner.kind not in ("evaluation", "other", "speed") else ""
    texts = {"title": owner.title, "kind": kind, "package": owner.package, "summary": owner.description.summary}
    return {**{name: escaped(text) for name, text in texts.items()}, "numbers": numbers}


def _sentence(text: str) -> str:
    # A docstring says "the mean of r"; a symbol at its start stays as it is.
    starts_with_word = text[:2].islower() or text.startswith("a ")
    return text[:1].upper() + text[1:] if starts_with_word else text
