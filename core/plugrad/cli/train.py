"""`plugrad train`: train a model from a run file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plugrad.cli.reporting import IS_LAUNCHED, IS_MAIN, reporting
from plugrad.cli.shared_options import SETS, TRACEBACK
from plugrad.errors import RunFileError
from plugrad.paths import absolute
from plugrad.quick_imports import without_collections
from plugrad.shown import printable

if TYPE_CHECKING:
    from plugrad.config.run_file import RunFile


RUN = typer.Argument(
    help="The run file (TOML), or with --resume a run folder. Default with --like: the run file of that run.",
    show_default=False,
)
PROCESSES = typer.Option(
    min=1, help="Number of processes that train together on this machine. Default: 1, or what a launcher started."
)
RESTARTS = typer.Option(min=0, help="How often all processes are started again after one was killed or a server was lost.")
OVERWRITE = typer.Option("--overwrite", help="Replace an existing run in output_dir.")
RESUME = typer.Option(
    "--resume", help="Go on from the newest checkpoint, or begin where there is none. Takes a run folder, too."
)
CHANGES = typer.Option("--allow-changes", help="With --resume: go on although something has changed, and record it.")
SAMPLES = typer.Option(
    min=0,
    show_default=False,
    help="How many samples to print at each evaluation and at the end. Default: 3 in a terminal (best, typical and worst), "
    "none elsewhere.",
)
LIKE = typer.Option(help="Folder of an earlier run, or its model: print what differs, then train.", show_default=False)


def train(
    run_file: Annotated[Path | None, RUN] = None,
    overrides: Annotated[list[str] | None, SETS] = None,
    num_processes: Annotated[int | None, PROCESSES] = None,
    max_restarts: Annotated[int, RESTARTS] = 0,
    overwrite: Annotated[bool, OVERWRITE] = False,
    resume: Annotated[bool, RESUME] = False,
    allow_changes: Annotated[bool, CHANGES] = False,
    like: Annotated[Path | None, LIKE] = None,
    samples: Annotated[int | None, SAMPLES] = None,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Train a model from a run file.

    The run folder receives the resolved run file, a record of the plugins, the metrics, samples, checkpoints and the model.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.trainer.ranks.launch_variables import check_launch_variables

        check_launch_variables()
        _check_resume(resume=resume, overwrite=overwrite, allow_changes=allow_changes)
        read = _read(run_file, overrides or [], like, resume=resume)
        if read.tracking.trackers and not IS_LAUNCHED:
            from plugrad.trainer.tracking.check_tracking import check_packages

            check_packages(read.tracking)
        if ((num_processes or 1) > 1 or max_restarts) and not IS_LAUNCHED:
            given = {"overwrite": overwrite, "resume": resume, "allow-changes": allow_changes, "traceback": show_traceback}
            flags = [f"--{name}" for name, is_given in given.items() if is_given]
            flags += [] if samples is None else ["--samples", str(samples)]
            _start_ranks(read, num_processes or 1, _as_arguments(run_file, overrides, like, flags), max_restarts)
            return
        # Imported only now: torch takes seconds, and most typing errors are in the run file.
        with without_collections():
            from plugrad.trainer.ranks.ranks import leave
            from plugrad.trainer.ranks.restarts import telling_the_launcher
            from plugrad.trainer.record.display import display_for, print_summary
            from plugrad.trainer.train import train as run

        with telling_the_launcher():
            go_on = partial(run, resume=resume, allow_changes=allow_changes)
            display = display_for(console, samples)
            result = go_on(read, overwrite=overwrite, like=like, display=display, num_processes=num_processes)
        if IS_MAIN:
            print_summary(result, console, samples)
        leave()


def _check_resume(*, resume: bool, overwrite: bool, allow_changes: bool) -> None:
    if resume and overwrite:
        raise RunFileError("--resume goes on from the run in output_dir, and --overwrite replaces it: give one of them.")
    if allow_changes and not resume:
        raise RunFileError("--allow-changes is for a run that goes on: pass it with --resume.")


def _read(run_file: Path | None, overrides: list[str], like: Path | None, *, resume: bool) -> RunFile:
    from plugrad.config.run_file import RunFile
    from plugrad.trainer.checkpoints.kept_run_file import kept_run_file
    from plugrad.trainer.record.run_diff import EarlierRun
    from plugrad.trainer.record.run_folder import PLUGINS

    # Read first: a folder without a run is reported before torch is imported.
    earlier = EarlierRun.read(like) if like else None
    if run_file is not None and resume and run_file.is_dir():
        return kept_run_file(run_file, overrides)
    if run_file is not None and (run_file / PLUGINS).is_file():
        raise RunFileError(
            f"{printable(run_file)} is the folder of a run. To go on in it: plugrad train --resume {printable(run_file)}. "
            f"To repeat that run elsewhere: plugrad train --like {printable(run_file)} --set output_dir=..."
        )
    if run_file is not None:
        return RunFile.load(run_file, overrides)
    if resume:
        raise RunFileError("--resume needs to know which run: give its run file, or its run folder.")
    if earlier is None:
        raise RunFileError("there is nothing to train: give a run file, or --like RUN_FOLDER to repeat an earlier run.")
    if not any(override.partition("=")[0].strip() == "output_dir" for override in overrides):
        raise RunFileError(
            f"--like {like} without a run file repeats that run, and its folder is taken. Choose another one with "
            "--set output_dir=..."
        )
    return RunFile.load(earlier.run_file, overrides)


def _start_ranks(run_file: RunFile, num_processes: int, arguments: list[str], max_restarts: int) -> None:
    from plugrad.config.rank_shares import check_shares

    check_shares(run_file, num_processes)
    with without_collections():
        from plugrad.trainer.ranks.restarts import launch_again

    command = ["train", *arguments, "--num-processes", str(num_processes)]
    exit_code = launch_again(command, num_processes, absolute(run_file.output_dir), max_restarts)
    if exit_code:
        raise typer.Exit(exit_code)


def _as_arguments(run_file: Path | None, overrides: list[str] | None, like: Path | None, flags: Sequence[str]) -> list[str]:
    files = [str(run_file)] if run_file else []
    sets = [argument for override in overrides or [] for argument in ("--set", override)]
    earlier = ["--like", str(like)] if like else []
    return [*files, *sets, *earlier, *flags]
