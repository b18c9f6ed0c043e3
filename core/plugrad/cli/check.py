"""`plugrad check`: check that a component keeps the promises of its kind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from plugrad.cli.check_process import note_check, note_finished, run_in_a_process, runs_checks
from plugrad.cli.check_table import Line, print_lines
from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import REFERENCE, TRACEBACK, assignments, columns_of, option_values
from plugrad.errors import PluginError

if TYPE_CHECKING:
    from plugrad.registry.scan import Kind
    from plugrad.testing.checks import Check, Result

FAILED = 1
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
CAPTURE = typer.Option(
    "--on", metavar="CAPTURE", help="Check a loss on a captured batch of a run instead, such as captures/step_000050."
)
STRICT = typer.Option("--strict", help="Also run the checks that plugrad itself does not rely on.")


def check(
    reference: Annotated[str, REFERENCE],
    kind: Annotated[str | None, KIND] = None,
    sets: Annotated[list[str] | None, SETS] = None,
    strict: Annotated[bool, STRICT] = False,
    example: Annotated[str | None, EXAMPLE] = None,
    on: Annotated[str | None, CAPTURE] = None,
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
        options, reasons = option_values(sets), assignments("--expected-failure", expected)
        columns = columns_of(example)
        with _progress(console) as show:
            if on is not None:
                checks = _checks_on(on, reference, known, options)
            else:
                # Here: it imports torch, which takes seconds.
                from plugrad.testing.kinds import checks_of

                checks = checks_of(reference, kind=known, options=options, strict=strict, example=columns)
            started = time.perf_counter()
            results = _run(checks, reasons, show)
        _print_results(results, time.perf_counter() - started, console)
        if any(result.is_bad for result in results):
            raise typer.Exit(FAILED)


def _checks_on(capture: str, reference: str, kind: Kind | None, options: Mapping[str, Any]) -> list[Check]:
    from plugrad.testing.losses.on_capture import checks_on_capture
    from plugrad.trainer.capture.capture_files import read_capture

    if kind not in (None, "loss"):
        raise PluginError(f"--on is for losses, and --kind is {kind!r}. Leave one of them out.")
    return list(checks_on_capture(reference, read_capture(capture), options=options))


def _run(checks: Sequence[Check], reasons: Mapping[str, str], show: Callable[[str], None]) -> list[Result]:
    from plugrad.testing.checks import run_checks

    def watch(check: Check) -> None:
        note_check(check.name, check.promise.statement)
        show(f"{check.name}: {check.promise.statement}")

    return run_checks(checks, reasons, watch, lambda result: note_finished(Line.of(result)))


def _known_kind(kind: str | None) -> Kind | None:
    from plugrad.registry.scan import known_kind

    return None if kind is None else known_kind(kind)


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
    print_lines(map(Line.of, results), console)
    counts = Counter(result.outcome.value for result in results)
    summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    console.print(f"\n{summary} in {seconds:.0f} s (conformance kit {KIT_VERSION})", soft_wrap=True)
    for result in results:
        if result.check.promise.untested and result.outcome.name in SKIPPED:
            console.print(Text(f"{result.check.promise.untested}: {result.seen}"), soft_wrap=True)
