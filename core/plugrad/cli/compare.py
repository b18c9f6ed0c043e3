"""`plugrad compare`: run variants of one run file over several seeds, and compare them."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from plugrad.cli.plots import MISSING
from plugrad.cli.reporting import IS_LAUNCHED, reporting
from plugrad.cli.shared_options import SETS, TRACEBACK
from plugrad.errors import TrainingError
from plugrad.shown import printable
from plugrad.user_interrupt import handling_signals, signal_of

if TYPE_CHECKING:
    from plugrad.compare.comparison import ComparisonOptions, ComparisonResult
    from plugrad.compare.progress import Progress
    from plugrad.compare.progress_display import ProgressDisplay
    from plugrad.compare.report import Report
    from plugrad.compare.summary import Summary

FAILED = 1

RUN_FILE = typer.Argument(help="The run file (TOML) that every arm starts from.", show_default=False)
VARY = typer.Option(
    "--vary",
    metavar="KEY=VALUE,VALUE",
    help="Make one arm per value. With several --vary, every combination is an arm. Repeatable.",
)
ARM = typer.Option(
    "--arm",
    metavar="'NAME: KEY=VALUE KEY=VALUE'",
    help="An arm that sets several keys, such as a loss and its options. Repeatable.",
)
SEEDS = typer.Option(
    help="How many seeds, counted from the run file's; or which ones, as in 0,5,7 (a single one is written 7,)."
)
BASELINE = typer.Option(
    metavar="ARM",
    help="The arm to compare the others with. run-file is the unchanged run file. Default: the first arm.",
)
OUTPUT_DIR = typer.Option(help="Folder for runs, table and picture. Default: runs/compare- and the run file's name.")
NUM_PROCESSES = typer.Option(min=1, help="Number of processes that each run trains in. Runs are started one by one.")
RERUN = typer.Option(
    metavar="ARM", help="Discard the runs of this arm and run it again, for example after editing its loss. Repeatable."
)
OVERWRITE = typer.Option("--overwrite", help="Discard every run in output_dir and run all of them again.")


def compare(
    run_file: Annotated[Path, RUN_FILE],
    varied: Annotated[list[str] | None, VARY] = None,
    written: Annotated[list[str] | None, ARM] = None,
    seeds: Annotated[str, SEEDS] = "3",
    baseline: Annotated[str | None, BASELINE] = None,
    overrides: Annotated[list[str] | None, SETS] = None,
    output_dir: Annotated[Path | None, OUTPUT_DIR] = None,
    num_processes: Annotated[int | None, NUM_PROCESSES] = None,
    rerun: Annotated[list[str] | None, RERUN] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Compare losses, or any other setting of a run file, over several seeds.

    Every arm gets the same prompts, model and seeds. Each run is its own
    process, and a run that fails does not stop the others. Run the same
    command again to continue after an interruption, or with more arms,
    seeds or steps: only what is missing is run, from the checkpoints where
    there are any. Exit code 1: a run failed.

    REWARD is the mean training reward over the last tenth of a run's steps.
    EQUAL TOKENS is the same, with every run cut at the total tokens of the
    run that sampled fewest. HELD-OUT is the last evaluation. ± is the standard
    deviation over three seeds or more; of two seeds, both values are shown.
    Differences from the baseline are paired by seed.
    table.md explains the other columns.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.compare.comparison import ComparisonOptions

        options = ComparisonOptions(
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
        exit_code = _compare(options, console)
    if exit_code:
        raise typer.Exit(exit_code)


def _compare(options: ComparisonOptions, console: Console) -> int:
    """Compare, and return the exit code."""
    from plugrad.compare.comparison import plan_comparison, run_comparison
    from plugrad.errors import RunFileError

    if IS_LAUNCHED:
        raise RunFileError("compare starts its own processes: call it without a launcher, and use --num-processes.")
    try:
        plan = plan_comparison(options)
    except KeyboardInterrupt as stopped:
        console.print("Interrupted before the first run.")
        return 128 + signal_of(stopped)
    with handling_signals(_as_ctrl_c, signal.SIGTERM):
        result = run_comparison(options, plan, lambda report, progress: _open_display(report, progress, console))
    _print_result(result, console)
    if result.signal is not None:
        console.print(f"Interrupted. Run the same command again to continue.{_what_goes_on(result)}", soft_wrap=True)
        return 128 + result.signal
    return FAILED if result.progress.number("failed") else 0


def _what_goes_on(result: ComparisonResult) -> str:
    stopped = result.progress.current
    if stopped is None or not stopped.kept_step:
        return ""
    return f" {stopped.arm}, seed {stopped.seed}, goes on after step {stopped.kept_step}."


def _open_display(report: Report, progress: Progress, console: Console) -> ProgressDisplay:
    from plugrad.compare.progress_display import display_for

    done = progress.number("done")
    going_on = sum(not run.is_finished and run.kept_step > 0 for run in report.runs)
    seeds = list(dict.fromkeys(str(run.seed) for run in report.runs))
    listed = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
    console.print(
        f"comparing {', '.join(arm.name for arm in report.arms)} in {report.run_file.name}: {len(report.runs)} runs, "
        f"{listed}, baseline {report.baseline}"
        + (f"; {done} already done" if done else "")
        + (f"; {going_on} to go on from a checkpoint" if going_on else ""),
        soft_wrap=True,
    )
    return display_for(console, progress)


def _print_result(result: ComparisonResult, console: Console) -> None:
    from plugrad.compare.comparison_folder import COMPARISON
    from plugrad.compare.report import TABLE
    from plugrad.compare.results_table import SPREAD, as_text

    report = result.report
    try:
        summary = report.write()
    except OSError as error:
        raise _not_written(report, error) from error
    if summary.num_finished:
        picture = _draw(summary, report, console)
        for table in as_text(summary, console.width):
            console.print()
            console.print(table)
        console.print(f"\n{SPREAD}", style="dim", soft_wrap=True)
    else:
        picture = None
    _print_failures(result.progress, console)
    console.print()
    if picture:
        console.print(f"picture      {picture}", soft_wrap=True)
    console.print(f"table        {report.folder / TABLE}  (with how each number is computed)", soft_wrap=True)
    console.print(f"numbers      {report.folder / COMPARISON}", soft_wrap=True)
    console.print(f"runs         {report.folder}/ARM/seed-N", soft_wrap=True)


def _draw(summary: Summary, report: Report, console: Console) -> Path | None:
    from plugrad.compare.picture import draw
    from plugrad.compare.report import PICTURE

    path = report.folder / PICTURE
    try:
        return path if draw(summary, path, report.title, console) else None
    except OSError as error:
        raise _not_written(report, error) from error
    except ImportError:
        console.print(MISSING, style="yellow", soft_wrap=True)
        return None


def _not_written(report: Report, error: OSError) -> TrainingError:
    return TrainingError(
        f"the results cannot be written to {printable(report.folder)}: {printable(error)}. The runs are kept: move what is "
        "in the way, or make room, and run the same command again."
    )


def _print_failures(progress: Progress, console: Console) -> None:
    for (arm, error), runs in progress.failures().items():
        seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(str(run.seed) for run in runs)}"
        console.print(f"\n{arm}, {seeds}: {error}", style="red", soft_wrap=True)
        console.print(f"    its output: {runs[0].log}", soft_wrap=True)


def _as_ctrl_c(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)
