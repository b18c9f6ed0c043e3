"""`plugrad plugins list`: what is installed, by kind, and what a run file writes for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from plugrad import __version__
from plugrad.registry.modules import summary_of
from plugrad.registry.scan import GROUPS, KINDS, Entry, scan
from plugrad.registry.status import Standing, standings

NARROWEST = 20
"""With less room, nothing is said of a component."""

HEADINGS = {kind: group.removeprefix("plugrad.").upper() for group, kind in GROUPS.items()}


def list_installed(console: Console, *, as_json: bool) -> None:
    """Print what is installed. Nothing is imported."""
    catalogue = scan()
    found = sorted(standings(catalogue), key=lambda standing: KINDS.index(standing.entry.kind))
    if as_json:
        typer.echo(json.dumps(_as_json(found, catalogue.refused), indent=2))
    else:
        _print(found, catalogue.refused, console)


def _print(found: Sequence[Standing], refused: Sequence[Entry], console: Console) -> None:
    about = _abouts(found)
    lines = _for_reading(found, about, console.width) if console.is_terminal else _for_searching(found, about)
    for line in lines:
        console.print(line, soft_wrap=True)
    for entry in refused:
        where = f"it lies in the working directory ({entry.location})"
        console.print(f"refused: {entry.kind} {entry.name} of {entry.owner}: {where}", style="yellow", soft_wrap=True)
    if any(standing.problem for standing in found) or refused:
        console.print("`plugrad plugins doctor` says what is wrong and what to do.", soft_wrap=True)


def _for_reading(found: Sequence[Standing], about: Mapping[Entry, str], width: int) -> Iterator[Text]:
    """Lay the components out under their kind and package. Names stay whole: only what is said of them is cut."""
    longest = max((len(standing.entry.name) for standing in found), default=0)
    for kind, owner, components in _by_kind_and_owner(found):
        if kind:
            yield Text(kind, style="bold")
        yield Text(f"  {owner}", style="dim")
        for standing in components:
            cell = f"    {standing.entry.name:<{longest}}  "
            yield Text(f"{cell}{_cut(about[standing.entry], width - len(cell))}".rstrip())
            if standing.note:
                yield Text(f"      ! {standing.note}", style="yellow")


def _by_kind_and_owner(found: Sequence[Standing]) -> Iterator[tuple[str, str, list[Standing]]]:
    """Yield the heading of a kind where it begins, a package, and its components of that kind."""
    shown: str | None = None
    for (kind, owner), components in groupby(found, key=lambda standing: (standing.entry.kind, standing.entry.owner)):
        yield ("" if kind == shown else HEADINGS[kind]), owner, list(components)
        shown = kind


def _for_searching(found: Sequence[Standing], about: Mapping[Entry, str]) -> Iterator[str]:
    """Lay the components out one a line, with all that is said of them: whoever reads a pipe greps it."""
    entries = [standing.entry for standing in found]
    rows = [("KIND", "NAME", "PACKAGE", "VERSION"), *((e.kind, e.name, e.package, e.version) for e in entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    said = [f"{about[s.entry]}{f'  ! {s.note}' if s.note else ''}" for s in found]
    for row, last in zip(rows, ["ABOUT", *said], strict=True):
        cells = "  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True))
        yield f"{cells}  {last}".rstrip()


def _cut(text: str, room: int) -> str:
    if room < NARROWEST:
        return ""
    return text if len(text) <= room else text[: room - 1] + "…"


def _abouts(found: Sequence[Standing]) -> dict[Entry, str]:
    """Return a line about each component: its own from the source, or that of its package."""
    entries = [standing.entry for standing in found]
    components_of = Counter(_module_of(entry) for entry in entries)
    return {
        entry: summary_of(entry.target, is_alone=components_of[_module_of(entry)] == 1) or entry.summary for entry in entries
    }


def _module_of(entry: Entry) -> str:
    return entry.target.partition(":")[0]


def _as_json(found: Sequence[Standing], refused: Sequence[Entry]) -> dict[str, Any]:
    about = _abouts(found)
    components = [
        {
            **_described(standing.entry),
            "reference": standing.reference,
            "about": about[standing.entry],
            "also_offered_by": [rival.package for rival in standing.rivals],
            "problem": standing.problem,
        }
        for standing in found
    ]
    return {"plugrad": __version__, "components": components, "refused": [_described(entry) for entry in refused]}


def _described(entry: Entry) -> dict[str, str]:
    keys = ("kind", "name", "package", "version", "target", "location")
    return {key: getattr(entry, key) for key in keys}
