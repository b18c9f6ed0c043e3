"""`plugrad compare`: the same run with one thing different, over several seeds."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from plugrad.cli.plots import MISSING
from plugrad.cli.reporting import INTERRUPTED, IS_LAUNCHED, reporting
from plugrad.cli.train import SETS

if TYPE_CHECKING:
    from plugrad.compare.comparison import Asked, Ended
    from plugrad.compare.progress import Progress
    from plugrad.compare.progress_display import Display
    from plugrad.compare.report import Report
    from plugrad.compare.summary import Summary

FAILED = 1

VARY = typer.Option(
    "--vary",
    metavar="KEY=VALUE,VALUE",
    help="Give each value an arm of its own. Of several --vary, every combination is an arm. Repeatable.",
)
ARM = typer.Option(
    "--arm",
    metavar="'NAME: KEY=VALUE KEY=VALUE'",
    help="An arm with several keys of its own, such as a loss and its options. Repeatable.",
)


def compare(
    run_file: Annotated[Path, typer.Argument(help="The run file (TOML) that every arm starts from.", show_default=False)],
    varied: Annotated[list[str] | None, VARY] = None,
    written: Annotated[list[str] | None, ARM] = None,
    seeds: Annotated[
        str, typer.Option(help="How many, from the run file's seed on; or which, as in 0,5,7 (7, for one).")
    ] = "3",
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="ARM",
            help="The arm that the others are compared with; run-file is the run file as it is. Default: the first.",
        ),
    ] = None,
    overrides: Annotated[list[str] | None, SETS] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Where runs, table and picture go. Default: runs/compare- and the run file's name."),
    ] = None,
    num_processes: Annotated[
        int | None, typer.Option(min=1, help="How many processes each run trains in; runs come one after the other.")
    ] = None,
    rerun: Annotated[
        list[str] | None,
        typer.Option(metavar="ARM", help="Run this arm anew, such as a loss that you have changed. Repeatable."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Run everything anew that is in output_dir.")] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole of an error.")] = False,
) -> None:
    """Compare losses, or anything else that a run file says.

    Every arm gets the same prompts, model and seeds.

    Each run is a process of its own, one after the other: one that fails does
    not cost the others. The same command goes on where it was interrupted,
    and runs only what is missing when arms or seeds come to it.
    Exit code 1: a run failed.

    REWARD is the mean training reward over the last tenth of a run's steps.
    EQUAL TOKENS is the same, with every run cut where the one with the fewest
    tokens ended. HELD-OUT is the last evaluation.
    What stands after ± is the standard deviation over seeds, and a
    difference from the baseline is taken seed by seed.
    table.md says how every other number is computed.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.compare.comparison import Asked

        asked = Asked(
            run_file=run_file,
            overrides=overrides or [],
            varied=varied or [],
            written=written or [],
            seeds=seeds,
            baseline=baseline,
            output_dir=output_dir,
            num_processes=num_processes,
            overwrite=overwrite,
            rerun=rerun or [],
        )
        exit_code = _compare(asked, console)
    if exit_code:
        raise typer.Exit(exit_code)


def _compare(asked: Asked, console: Console) -> int:
    """Compare, and return the exit code."""
    from plugrad.compare.comparison import plan, run
    from plugrad.errors import RunFileError

    if IS_LAUNCHED:
        raise RunFileError("compare starts processes itself: leave the launcher out, and give --num-processes.")
    try:
        planned = plan(asked)
    except KeyboardInterrupt:
        console.print("Interrupted before the first run.")
        return INTERRUPTED
    with _sigterm_as_ctrl_c():
        ended = run(asked, planned, lambda report, progress: _start(report, progress, console))
    _print_end(ended, console)
    if ended.signal is not None:
        console.print("Interrupted. The same command goes on from here.", soft_wrap=True)
        return 128 + ended.signal
    return FAILED if ended.progress.number("failed") else 0


def _start(report: Report, progress: Progress, console: Console) -> Display:
    from plugrad.compare.progress_display import display_for

    done = progress.number("done")
    seeds = ", ".join(dict.fromkeys(str(run.seed) for run in report.runs))
    console.print(
        f"comparing {', '.join(arm.name for arm in report.arms)} in {report.run_file.name}: {len(report.runs)} runs, seeds "
        f"{seeds}, baseline {report.baseline}" + (f"; {done} done before" if done else ""),
        soft_wrap=True,
    )
    return display_for(console, progress)


def _print_end(ended: Ended, console: Console) -> None:
    from plugrad.compare.comparison_folder import COMPARISON
    from plugrad.compare.report import TABLE
    from plugrad.compare.results_table import SPREAD, as_text

    report, summary = ended.report, ended.report.write()
    if summary.num_finished:
        picture = _draw(summary, report, console)
        for table in as_text(summary, console.width):
            console.print()
            console.print(table)
        console.print(f"\n{SPREAD}", style="dim", soft_wrap=True)
    else:
        picture = None
    _print_failures(ended.progress, console)
    console.print()
    if picture:
        console.print(f"picture      {picture}", soft_wrap=True)
    console.print(f"table        {report.folder / TABLE}  (and how each number is computed)", soft_wrap=True)
    console.print(f"numbers      {report.folder / COMPARISON}", soft_wrap=True)
    console.print(f"runs         {report.folder}/ARM/seed-N", soft_wrap=True)


def _draw(summary: Summary, report: Report, console: Console) -> Path | None:
    from plugrad.compare.picture import draw
    from plugrad.compare.report import PICTURE

    path = report.folder / PICTURE
    try:
        return path if draw(summary, path, report.title, console) else None
    except ImportError:
        console.print(MISSING, style="yellow", soft_wrap=True)
        return None


def _print_failures(progress: Progress, console: Console) -> None:
    for (arm, error), runs in progress.failures().items():
        seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(str(run.seed) for run in runs)}"
        console.print(f"\n{arm}, {seeds}: {error}", style="red", soft_wrap=True)
        console.print(f"    printed before: {runs[0].log}", soft_wrap=True)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
