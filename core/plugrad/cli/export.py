"""`plugrad export`: make a whole model of the adapter that a run trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import TRACEBACK


def export(
    run: Annotated[Path, typer.Argument(help="The run folder, or the folder of an adapter.", show_default=False)],
    merged: Annotated[bool, typer.Option("--merged", help="Write whole weights, with the adapter in them.")] = False,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="The folder to write; by default `merged` in the run's.", show_default=False),
    ] = None,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Make a whole Transformers model of the adapter that a run trained.

    A run with [model.lora] saves its adapter alone. With --merged, adapter and
    base become one folder, which anything that loads Transformers models reads.
    """
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.trainer.record.merged_model import export_merged

        written = export_merged(run, to, asked=merged)
        console.print(f"The merged model is in {written}.", soft_wrap=True, markup=False, highlight=False)
