"""`plugrad plugins list`: the installed components by kind and package, and what a run file writes for each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from plugrad import __version__
from plugrad.registry.modules import summary_of
from plugrad.registry.scan import GROUPS, KINDS, Entry, scan
from plugrad.registry.status import ComponentStatus, statuses_of

NARROWEST = 20
"""With fewer columns left, the line about a component is dropped."""
MOST_RIVALS = 20
"""How many packages that offer the same name are listed."""

HEADINGS = {kind: group.removeprefix("plugrad.").upper() for group, kind in GROUPS.items()}


def list_installed(console: Console, *, as_json: bool) -> None:
    """Print what is installed. Nothing is imported."""
    catalogue = scan()
    found = sorted(statuses_of(catalogue), key=lambda status: KINDS.index(status.entry.kind))
    if as_json:
        console.print(json.dumps(_as_json(found, catalogue.refused), indent=2), soft_wrap=True)
    else:
        _print(found, catalogue.refused, console)


def _print(found: Sequence[ComponentStatus], refused: Sequence[Entry], console: Console) -> None:
    for line in _lines(found, console.width if console.is_terminal else None):
        console.print(line, soft_wrap=True)
    for entry in refused:
        where = f"it is in the working directory ({entry.location})"
        console.print(f"refused: {entry.kind} {entry.name} of {entry.owner}: {where}", style="yellow", soft_wrap=True)
    if any(status.problem for status in found) or refused:
        console.print("Run `plugrad plugins doctor` to see what is wrong and how to fix it.", soft_wrap=True)


def _lines(found: Sequence[ComponentStatus], width: int | None) -> Iterator[Text]:
    """Yield one line a component, below its kind and its package. Only the line about a component is cut to `width`."""
    about = _abouts(found)
    longest = max((len(status.entry.name) for status in found), default=0)
    for kind, of_kind in groupby(found, key=lambda status: status.entry.kind):
        yield Text(HEADINGS[kind], style="bold")
        for owner, of_package in groupby(of_kind, key=lambda status: status.entry.owner):
            yield Text(f"  {owner}", style="dim")
            for status in of_package:
                cell = f"    {status.entry.name:<{longest}}  "
                yield Text(f"{cell}{_cut(about[status.entry], width and width - len(cell))}".rstrip())
                if status.note:
                    yield Text(f"      ! {status.note}", style="yellow")


def _cut(text: str, room: int | None) -> str:
    if room is None or len(text) <= room:
        return text
    return "" if room < NARROWEST else text[: room - 1] + "…"


def _abouts(found: Sequence[ComponentStatus]) -> dict[Entry, str]:
    """Return a line about each component: its own from the source, or else its package's summary."""
    entries = [status.entry for status in found]
    components_of = Counter(_module_of(entry) for entry in entries)
    return {
        entry: summary_of(entry.target, is_alone=components_of[_module_of(entry)] == 1) or entry.summary for entry in entries
    }


def _module_of(entry: Entry) -> str:
    return entry.target.partition(":")[0]


def _as_json(found: Sequence[ComponentStatus], refused: Sequence[Entry]) -> dict[str, Any]:
    about = _abouts(found)
    components = [
        {
            **_described(status.entry),
            "reference": status.reference,
            "about": about[status.entry],
            # The names of all of 2,000 rivals, 2,000 times, would be 70 MB.
            "also_offered_by": [rival.package for rival in status.rivals[:MOST_RIVALS]],
            "problem": status.problem,
        }
        for status in found
    ]
    return {"plugrad": __version__, "components": components, "refused": [_described(entry) for entry in refused]}


def _described(entry: Entry) -> dict[str, str]:
    keys = ("kind", "name", "package", "version", "target", "location")
    return {key: getattr(entry, key) for key in keys}
