"""`plugrad plugins`: what is installed, and what one component takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad.cli.reporting import reporting
from plugrad.errors import PluginError, did_you_mean
from plugrad.registry.scan import KINDS, Catalogue, Entry, Kind, scan

PIPED_WIDTH = 200
"""Where there is no terminal, lines are not cut to its width: whoever reads them greps them."""

NARROWEST_SUMMARY = 20

plugins_app = typer.Typer(help="Show what is installed.", invoke_without_command=True)


@plugins_app.callback()
def plugins(context: typer.Context) -> None:
    """Show what is installed."""
    if context.invoked_subcommand is None:
        list_plugins()


@plugins_app.command("list")
def list_plugins() -> None:
    """List the installed plugins. Nothing is imported."""
    with reporting() as console:
        catalogue = scan()
        if not console.is_terminal:
            console.width = PIPED_WIDTH
        entries = [entry for kind in KINDS for entry in catalogue.of_kind(kind)]
        for number, line in enumerate(_lines(entries, console.width)):
            console.print(line, style=None if number else "bold", soft_wrap=True)
        for entry in catalogue.refused:
            console.print(
                f"refused: {entry.kind} {entry.name} of {entry.owner}: it lies in the working directory ({entry.location})",
                style="yellow",
            )


def _lines(entries: list[Entry], width: int) -> Iterator[str]:
    """Lay the entries out in columns. Names stay whole, whatever the width: only the summary is cut, or left out."""
    rows = [("KIND", "NAME", "PACKAGE", "VERSION"), *((e.kind, e.name, e.package, e.version) for e in entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = width - sum(widths) - 2 * len(widths)
    for row, summary in zip(rows, ["SUMMARY", *(entry.summary for entry in entries)], strict=True):
        cells = "  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True))
        shown = summary if len(summary) <= room else summary[: room - 1] + "…"
        yield f"{cells}  {shown}".rstrip() if room >= NARROWEST_SUMMARY else cells.rstrip()


@plugins_app.command("show")
def show(
    reference: Annotated[str, typer.Argument(help="A name, package/name, module:function or file.py:function.")],
    kind: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(KINDS)}; needed where two kinds share a name.")
    ] = None,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole of an error.")] = False,
) -> None:
    """Show one component: what it does, its options, what it needs. Imports that component alone."""
    with reporting(show_traceback=show_traceback) as console:
        catalogue = scan()
        for each in _kinds_of(reference, kind, catalogue):
            _show(each, reference, catalogue, console)


def _kinds_of(reference: str, kind: str | None, catalogue: Catalogue) -> list[Kind]:
    if kind is not None and kind not in KINDS:
        raise PluginError(f"there is no kind {kind!r}. Kinds: {', '.join(KINDS)}.")
    if kind is not None:
        return [each for each in KINDS if each == kind]
    name = reference.rpartition("/")[2]
    found: list[Kind] = list(dict.fromkeys(entry.kind for entry in catalogue.entries if entry.name == name))
    if not found and ":" in reference:
        raise PluginError(f"{reference!r} could be of any kind: say which with --kind (one of {', '.join(KINDS)}).")
    if not found:
        names = {entry.name: entry for entry in catalogue.entries}
        raise PluginError(
            f"no plugin of any kind is called {name!r}.{did_you_mean(name, names)} "
            "`plugrad plugins list` shows what is installed."
        )
    return found


def _show(kind: Kind, reference: str, catalogue: Catalogue, console: Console) -> None:
    from plugrad.registry.bind import FACTS, REQUIRED, form_of, options_of, type_name
    from plugrad.registry.resolve import load, resolve, search_modules_in

    source = resolve(kind, reference, catalogue, [Path.cwd()])
    search_modules_in([Path.cwd()])
    target = load(source)
    console.print(Text(source.name, style="bold"), Text(f" {kind}, {source.owner}"), soft_wrap=True)
    console.print(Text(f"{source.target}\n", style="dim"), soft_wrap=True)
    console.print(inspect.getdoc(target) or "(no docstring)", soft_wrap=True)
    options = options_of(source, target)
    if options:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("OPTION", "TYPE", "DEFAULT"):
            table.add_column(column)
        for option in options:
            default = "(required)" if option.default is REQUIRED else repr(option.default)
            table.add_row(option.name, type_name(option.annotation), default)
        console.print()
        console.print(table)
    facts = _facts(target, kind, form_of(source, target), FACTS)
    if facts:
        console.print()
        console.print("\n".join(f"{name}: {value}" for name, value in facts.items()), soft_wrap=True)


def _facts(target: Any, kind: Kind, form: str, defaults: Any) -> dict[str, str]:
    from plugrad.contracts.markers import facts_of

    if kind not in defaults:
        return {}
    stated = dict(vars(facts_of(target, defaults[kind])))
    if "needs" in stated:
        needs = stated["needs"]
        stated["needs"] = "depends on its options" if callable(needs) else ", ".join(sorted(needs)) or "nothing more"
    if kind == "loss":
        stated["form"] = "a micro-batch" if form == "batch" else "one sequence"
    return {name.replace("_", " "): _word(value) for name, value in stated.items()}


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
