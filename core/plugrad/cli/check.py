"""`plugrad check`: check that a component keeps the promises of its kind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from plugrad.cli.check_process import note_check, run_in_a_process, runs_checks
from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import REFERENCE, TRACEBACK
from plugrad.errors import OptionError
from plugrad.json_text import parse_json
from plugrad.shown import shown

if TYPE_CHECKING:
    from plugrad.registry.scan import Kind
    from plugrad.testing.checks import Check, Result

FAILED = 1
EXAMPLE_SHAPE = """Write a JSON object from columns to values, as in --example '{"difficulty": 1}'."""
STYLES = {"KEPT": "green", "FAILED": "bold red", "UNEXPECTED": "bold red", "EXPECTED": "yellow"}
"""By the name of the outcome; the others are dim."""
SKIPPED = ("NOT_APPLICABLE", "NOT_RUN")
KIND = typer.Option(
    help="loss, advantage, metric, environment or extension. Needed if the component itself does not show its kind."
)
SETS = typer.Option(
    "--set", metavar="OPTION=VALUE", help="Set an option of the component, as in --set width=0.1. Repeatable."
)
EXPECTED = typer.Option(
    "--expected-failure", metavar="CHECK=REASON", help="A check that is known to fail, and the reason. Repeatable."
)
TIMEOUT = typer.Option("--check-timeout-s", min=1.0, help="The most seconds for one check, and for importing the component.")
EXAMPLE = typer.Option(
    "--example",
    metavar="JSON",
    help="""Columns of the trial's examples, beside those that every example has, as in --example '{"difficulty": 1}'.""",
)
STRICT = typer.Option("--strict", help="Also run the checks that plugrad itself does not rely on.")


def check(
    reference: Annotated[str, REFERENCE],
    kind: Annotated[str | None, KIND] = None,
    sets: Annotated[list[str] | None, SETS] = None,
    strict: Annotated[bool, STRICT] = False,
    example: Annotated[str | None, EXAMPLE] = None,
    expected: Annotated[list[str] | None, EXPECTED] = None,
    check_timeout_s: Annotated[float, TIMEOUT] = 300.0,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Check that a component keeps the promises of its kind. Exit code 1: it does not.

    A single file is enough: plugrad check ./my_loss.py:my_loss. The
    component runs in a process of its own. One that ends that process,
    crashes or hangs has failed the check that was running.
    """
    arguments = dict(locals())
    with reporting(show_traceback=show_traceback) as console:
        if not runs_checks():
            raise typer.Exit(run_in_a_process(arguments, check_timeout_s, console))
        known = _known_kind(kind)
        options, reasons = _assignments("--set", sets), _assignments("--expected-failure", expected)
        columns = _columns(example)
        with _progress(console) as show:
            checks = _checks(reference, known, options, strict, columns)
            started = time.perf_counter()
            results = _run(checks, reasons, show)
        _print_results(results, time.perf_counter() - started, console)
        if any(result.is_bad for result in results):
            raise typer.Exit(FAILED)


def _checks(
    reference: str, kind: Kind | None, options: Mapping[str, str], strict: bool, columns: Mapping[str, Any]
) -> list[Check]:
    from plugrad.config.override import toml_value
    from plugrad.testing.kinds import checks_of

    values = {name: toml_value(text) for name, text in options.items()}
    return checks_of(reference, kind=kind, options=values, strict=strict, example=columns)


def _columns(text: str | None) -> dict[str, Any]:
    """Return the columns of an example from JSON."""
    try:
        columns = parse_json(text or "{}", f"--example {shown(text)}")
    except ValueError as error:
        raise OptionError(f"{error}. {EXAMPLE_SHAPE}") from error
    if not isinstance(columns, dict):
        raise OptionError(f"--example {shown(text)} is not an object. {EXAMPLE_SHAPE}")
    return columns


def _run(checks: Sequence[Check], reasons: Mapping[str, str], show: Callable[[str], None]) -> list[Result]:
    from plugrad.testing.checks import run_checks

    def watch(check: Check) -> None:
        note_check(check.name, check.promise.statement)
        show(f"{check.name}: {check.promise.statement}")

    return run_checks(checks, reasons, watch)


def _known_kind(kind: str | None) -> Kind | None:
    from plugrad.registry.scan import known_kind

    return None if kind is None else known_kind(kind)


def _assignments(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    pairs = [(text, *text.partition("=")) for text in texts or []]
    wrong = next((text for text, name, equals, value in pairs if not (name and equals and value)), None)
    if wrong is not None:
        raise OptionError(f"{option} {wrong!r} is not an assignment. Write {option} NAME=VALUE.")
    return {name.strip(): value.strip() for _, name, _, value in pairs}


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Show the current check in a terminal."""
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("importing") as status:
        yield lambda text: status.update(Text(text))


def _print_results(results: Sequence[Result], seconds: float, console: Console) -> None:
    from plugrad.testing.checks import KIT_VERSION

    component: Any = results[0].check.owner
    options = ", ".join(f"{name}={value!r}" for name, value in component.options.items())
    console.print(Text(component.name, style="bold"), Text(f" {component.kind}, {component.source.owner}"), soft_wrap=True)
    if options:
        console.print(Text(options, style="dim"), soft_wrap=True)
    console.print()
    console.print(_table(results))
    for result in (result for result in results if result.is_bad):
        _print_failure(result, console)
    counts = Counter(result.outcome.value for result in results)
    summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    console.print(f"\n{summary} in {seconds:.0f} s (conformance kit {KIT_VERSION})", soft_wrap=True)
    for result in results:
        if result.check.promise.untested and result.outcome.name in SKIPPED:
            console.print(Text(f"{result.check.promise.untested}: {result.seen}"), soft_wrap=True)


def _table(results: Sequence[Result]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CHECK", no_wrap=True)
    table.add_column("RESULT", no_wrap=True)
    table.add_column("SEEN", overflow="fold")
    for result in results:
        outcome = Text(result.outcome.value, style=STYLES.get(result.outcome.name, "dim"))
        table.add_row(result.check.name, outcome, result.seen)
    return table


def _print_failure(result: Result, console: Console) -> None:
    from plugrad.testing.checks import Outcome

    promise: Any = result.check.promise
    details = (
        {"seen": result.seen, "fix": "it was declared to fail and now passes: remove the declaration."}
        if result.outcome is Outcome.UNEXPECTED
        else {"seen": result.seen, "why": result.why, "fix": result.fix}
    )
    console.print()
    console.print(Text(promise.name, style="bold red"), Text(f" {promise.statement}"), soft_wrap=True)
    for word, text in ((word, text) for word, text in details.items() if text):
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, width=5)
        grid.add_column(overflow="fold")
        grid.add_row(Text(word, style="dim"), text)
        console.print(Padding(grid, (0, 0, 0, 2)))
