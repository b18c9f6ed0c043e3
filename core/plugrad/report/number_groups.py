"""Whose a number is: the numbers of runs, grouped by the component that reports them, each with its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plugrad.config.tables.evaluation_table import OF_SEVERAL
from plugrad.host.labels import labels_of
from plugrad.report.core_numbers import (
    CORE_NUMBERS,
    EVALUATION,
    OF_A_LOSS,
    OF_HELD_OUT,
    OF_THE_ENVIRONMENT,
    SPEED,
    SPEEDS,
    THE_RUN,
)
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
    prefix: str = ""
    """What all names begin with, where the numbers are of held-out completions."""
    of_training: Mapping[str, Owner] = field(default_factory=dict)
    """Who reports the same numbers of training, by what comes before the slash in their names."""

    def caption(self, name: str) -> str:
        """Return what is known about a number."""
        if self.prefix:
            return self._of_held_out(name.removeprefix(self.prefix))
        own = name.partition("/")[2]
        told = CORE_NUMBERS.get(name) or self.description.caption(own)
        if told or self.kind not in ("loss", "environment"):
            return told
        return OF_A_LOSS if own == "loss" else OF_THE_ENVIRONMENT if self.kind == "environment" else ""

    def _of_held_out(self, own: str) -> str:
        """Return what is known about a number of held-out completions, by its name without what all begin with."""
        head = own.partition("/")[0]
        of_core = own == head or head in OF_SEVERAL or head not in self.of_training
        return OF_HELD_OUT.get(head, "") if of_core else self.of_training[head].caption(own)


def name_of(component: Mapping[str, Any]) -> str:
    """Return the name of a recorded component, from which its label is made."""
    reference = component["reference"]
    return str(reference.rpartition(":" if ":" in reference else "/")[2])


def owners_of(plugins: Mapping[str, Any]) -> dict[str, Owner]:
    """Return the owners of the numbers of a run, by what comes before the slash in a number's name."""
    found: dict[str, Owner] = {}
    for kind in ("environment", "advantage", "extension", "metric", "loss"):
        components = [each for each in plugins.get("components", ()) if each["kind"] == kind and not each.get("set")]
        for component, label in zip(components, labels_of(map(name_of, components)), strict=True):
            package = f"{component['package']} {component.get('version') or ''}" if component.get("package") else ""
            whose = package or str(component["target"]).rpartition(":")[0].rpartition("/")[2]
            prefix = "environment" if kind == "environment" else label
            found[prefix] = Owner(label, kind, whose, description_of(component))
    return found


def _owners_of_sets(run: ReportedRun, owners: Mapping[str, Owner]) -> dict[str, Owner]:
    """Return the owners of the numbers of held-out sets, by their names. A set may have an environment of its own."""
    found = {}
    for name in _names_of_sets(run):
        own = next((each for each in run.plugins.get("components", ()) if each.get("set") == name), None)
        environment = Owner("environment", "environment", description=description_of(own)) if own else None
        beside = {**owners, "environment": environment} if environment else owners
        found[name] = Owner(f"{EVALUATION}: {name}", "evaluation", prefix=f"eval/{name}/", of_training=beside)
    return found


def _names_of_sets(run: ReportedRun) -> list[str]:
    evaluation = run.tables.get("evaluation")
    sets = evaluation.get("sets") if isinstance(evaluation, Mapping) else None
    return list(map(str, sets)) if isinstance(sets, Mapping) else []


def groups_of(runs: Sequence[ReportedRun]) -> list[dict[str, Any]]:
    """Return the groups of the page's curves, in their order; a curve for each run, None where a run has no such number."""
    owners: dict[str, Owner] = {}
    sets: dict[str, Owner] = {}
    for run in runs:
        own = owners_of(run.plugins)
        owners, sets = own | owners, _owners_of_sets(run, own) | sets
    grouped: dict[str, list[str]] = {}
    by_title: dict[str, Owner] = {}
    for name in dict.fromkeys(name for run in runs for name in run.curves):
        owner = _owner_of(name, owners, sets)
        by_title.setdefault(owner.title, owner)
        grouped.setdefault(owner.title, []).append(name)
    ordered = sorted(by_title.values(), key=lambda owner: ORDER.index(owner.kind))
    return [_group(owner, grouped[owner.title], runs) for owner in ordered]


def _owner_of(name: str, owners: Mapping[str, Owner], sets: Mapping[str, Owner]) -> Owner:
    prefix, slash, rest = name.partition("/")
    if name in SPEEDS:
        return Owner(SPEED, "speed")
    if not slash:
        return Owner(THE_RUN, "")
    if prefix == "eval":
        of_all = Owner(EVALUATION, "evaluation", prefix="eval/", of_training=owners)
        return sets.get(rest.partition("/")[0], of_all)
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
