"""`plugrad train`: run a run file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plugrad.cli.reporting import reporting

SETS = typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in --set loss.kwargs.clip_eps=0.1. Repeatable.")


def train(
    run_file: Annotated[Path, typer.Argument(help="The run file (TOML).", show_default=False)],
    overrides: Annotated[list[str] | None, SETS] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already in output_dir.")] = False,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole of an error.")] = False,
) -> None:
    """Train a model as a run file says.

    The run folder holds the resolved run file, what was resolved, the metrics and the model.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.config.run_file import RunFile

        read = RunFile.load(run_file, overrides or [])
        # Only now: torch takes seconds to import, and most typing errors are in the run file.
        from plugrad.trainer.display import display_for, print_summary
        from plugrad.trainer.train import train as run

        print_summary(run(read, overwrite=overwrite, display=display_for(console)), console)
