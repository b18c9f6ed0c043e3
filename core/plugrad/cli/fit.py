"""`plugrad fit`: say what a run will take of a GPU's memory, before there is one, and with which settings it would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import SETS, TRACEBACK
from plugrad.quick_imports import without_collections

DOES_NOT_FIT = 1
RUN = typer.Argument(help="The run file (TOML).", show_default=False)
MEMORY = typer.Option(
    "--memory",
    metavar="GIB",
    min=0.0,
    help="The memory of a GPU. Without it, only the estimate is printed.",
    show_default=False,
)
SHARDS = typer.Option("--shards", metavar="NUMBER", min=1, help="Over how many GPUs FSDP2 shards the policy.")


def fit(
    run_file: Annotated[Path, RUN],
    memory: Annotated[float | None, MEMORY] = None,
    shards: Annotated[int, SHARDS] = 1,
    overrides: Annotated[list[str] | None, SETS] = None,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Estimate what a run takes of a GPU's memory, and the settings with which it would fit. Exit code 1: it does not.

    No GPU and no weights are needed: configurations of the models are enough.
    Engines and their caches are not counted.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.config.run_file import RunFile

        read = RunFile.load(run_file, overrides or []).with_absolute_paths()
        with without_collections():
            from plugrad.trainer.memory_check import would_fit
        line, fits = would_fit(read, memory, num_shards=shards)
        console.print(line, soft_wrap=True, markup=False, highlight=False)
        if not fits:
            raise typer.Exit(DOES_NOT_FIT)
