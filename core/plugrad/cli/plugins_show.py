"""`plugrad plugins show`: print what a component does, its options and its needs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad.errors import PluginError, did_you_mean
from plugrad.registry.scan import KINDS, Catalogue, Entry, Kind, known_kind, scan
from plugrad.shown import shown


def show_components(reference: str, kind: str | None, console: Console) -> None:
    """Print every component that `reference` means: one of each kind, if `kind` does not choose one.

    Raises:
        PluginError: there is none, or it fails to import.
    """
    catalogue = scan()
    for each in _kinds_of(reference, kind, catalogue):
        _show(each, reference, catalogue, console)


def _kinds_of(reference: str, kind: str | None, catalogue: Catalogue) -> list[Kind]:
    if kind is not None:
        return [known_kind(kind)]
    name = reference.rpartition("/")[2]
    found: list[Kind] = list(dict.fromkeys(entry.kind for entry in catalogue.entries if entry.name == name))
    if not found and ":" in reference:
        raise PluginError(f"{reference!r} could be of any kind. Choose one with --kind ({', '.join(KINDS)}).")
    if not found:
        names = {entry.name: entry for entry in catalogue.entries}
        raise PluginError(
            f"no plugin of any kind is called {name!r}.{did_you_mean(name, names)} "
            "`plugrad plugins list` shows what is installed."
        )
    return found


def _show(kind: Kind, reference: str, catalogue: Catalogue, console: Console) -> None:
    from plugrad.registry.options import REQUIRED, options_of, type_name
    from plugrad.registry.resolve import load, resolve, search_modules_in
    from plugrad.registry.signature import FACTS, form_of

    source = resolve(kind, reference, catalogue, [Path.cwd()])
    search_modules_in([Path.cwd()])
    target = load(source)
    console.print(Text(source.name, style="bold"), Text(f" {kind}, {source.owner}"), soft_wrap=True)
    console.print(Text(f"{source.target}\n{_from(source.entry)}", style="dim"), soft_wrap=True)
    console.print(inspect.getdoc(target) or "(no docstring)", soft_wrap=True)
    options = options_of(source, target)
    if options:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("OPTION", "TYPE", "DEFAULT"):
            table.add_column(column)
        for option in options:
            default = "(required)" if option.default is REQUIRED else shown(option.default)
            table.add_row(option.name, type_name(option.annotation), default)
        console.print()
        console.print(table)
    facts = _facts(target, kind, form_of(source, target), FACTS)
    if facts:
        console.print()
        console.print("\n".join(f"{name}: {value}" for name, value in facts.items()), soft_wrap=True)


def _from(entry: Entry | None) -> str:
    """Return where a package is and where it came from, as one line."""
    if entry is None:
        return ""
    from plugrad.registry.provenance import in_one_line, origin_of

    origin = origin_of(entry.distribution)
    return f"in {entry.location}{f', from {in_one_line(origin)}' if origin else ''}\n"


def _facts(target: Any, kind: Kind, form: str, defaults: Any) -> dict[str, str]:
    from plugrad.contracts.markers import facts_of

    if kind not in defaults:
        return {}
    stated = dict(vars(facts_of(target, defaults[kind])))
    if "needs" in stated and not callable(stated["needs"]):
        stated["needs"] = ", ".join(sorted(map(str, stated["needs"]))) or "nothing more"
    if "check_example" in stated:
        stated["check_example"] = stated["check_example"] is not None
    if kind == "loss":
        stated["form"] = "a micro-batch" if form == "batch" else "one sequence"
        stated["own_parameters"] = hasattr(target, "trained")
    return {name.replace("_", " "): _word(value) for name, value in stated.items()}


def _word(value: Any) -> str:
    if callable(value):
        return "depends on its options"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
