"""`plugrad train`: run a run file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plugrad.cli.reporting import IS_LAUNCHED, IS_MAIN, reporting

if TYPE_CHECKING:
    from plugrad.config.run_file import RunFile

SETS = typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in --set loss.kwargs.clip_eps=0.1. Repeatable.")


def train(
    run_file: Annotated[Path, typer.Argument(help="The run file (TOML).", show_default=False)],
    overrides: Annotated[list[str] | None, SETS] = None,
    num_processes: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many processes train together on this machine. Default: one, or as a launcher started."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already in output_dir.")] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole of an error.")] = False,
) -> None:
    """Train a model as a run file says.

    The run folder holds the resolved run file, what was resolved, the metrics and the model.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.config.run_file import RunFile

        read = RunFile.load(run_file, overrides or [])
        if num_processes is not None and num_processes > 1 and not IS_LAUNCHED:
            _start_ranks(read, num_processes, [str(run_file), *_as_arguments(overrides, overwrite, show_traceback)])
            return
        # Only now: torch takes seconds to import, and most typing errors are in the run file.
        from plugrad.trainer.display import display_for, print_summary
        from plugrad.trainer.ranks import leave
        from plugrad.trainer.train import train as run

        result = run(read, overwrite=overwrite, display=display_for(console), num_processes=num_processes)
        if IS_MAIN:
            print_summary(result, console)
        leave()


def _start_ranks(run_file: RunFile, num_processes: int, arguments: list[str]) -> None:
    from plugrad.config.processes import check_shares

    check_shares(run_file, num_processes)
    from plugrad.trainer.launch import launch

    exit_code = launch(["train", *arguments, "--num-processes", str(num_processes)], num_processes)
    if exit_code:
        raise typer.Exit(exit_code)


def _as_arguments(overrides: list[str] | None, overwrite: bool, show_traceback: bool) -> list[str]:
    sets = [argument for override in overrides or [] for argument in ("--set", override)]
    return [*sets, *["--overwrite"] * overwrite, *["--traceback"] * show_traceback]
