"""`plugrad report`: runs as one HTML file, or as a page that follows them."""

from __future__ import annotations

import logging
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import TRACEBACK
from plugrad.errors import RunFileError
from plugrad.shown import printable

logger = logging.getLogger("plugrad")

RUNS = typer.Argument(help="Folders of runs. The others are compared with the first.", show_default=False)
OUTPUT = typer.Option("--output", help="The file to write. Default: report.html in the folder of the first run.")
OPEN = typer.Option("--open", help="Open the report in the browser.")
WATCH = typer.Option("--watch", help="Serve the report on this machine and follow the runs, until Ctrl-C.")
PORT = typer.Option(min=0, max=65535, help="With --watch: the port. 0 is any that is free.")


def report(
    runs: Annotated[list[Path], RUNS],
    output: Annotated[Path | None, OUTPUT] = None,
    opens: Annotated[bool, OPEN] = False,
    watch: Annotated[bool, WATCH] = False,
    port: Annotated[int, PORT] = 0,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Show runs as one HTML file that needs no network: curves, samples, plugins, time, differences.

    Several runs share the axes of their curves. With --watch, the page
    follows runs that are going on; only this machine can open it.
    """
    with reporting(show_traceback=show_traceback) as console:
        folders = list(dict.fromkeys(runs))
        if watch:
            _watch(folders, port, opens, console)
        else:
            _write(folders, output, opens, console)


def _write(folders: list[Path], output: Path | None, opens: bool, console: Console) -> None:
    from plugrad.paths import expanded, replace_bytes
    from plugrad.report.report_page import REPORT, report_of

    made = report_of(folders)
    for text in made.passed_over:
        logger.warning("%s", text)
    page = made.html.encode()
    path = expanded(output) if output else expanded(folders[0]) / REPORT
    try:
        replace_bytes(path, page)
    except OSError as error:
        message = f"the report cannot be written to {printable(path)}: {printable(error)}. Choose another --output."
        raise RunFileError(message) from error
    console.print(f"report       {path}  ({len(page) / 1e6:.1f} MB)", soft_wrap=True)
    if opens:
        webbrowser.open(path.absolute().as_uri())


def _watch(folders: list[Path], port: int, opens: bool, console: Console) -> None:
    from plugrad.report.report_server import report_server

    with report_server(folders, port) as server:
        console.print(f"watching     {server.url}  (Ctrl-C ends it)", soft_wrap=True)
        if opens:
            webbrowser.open(server.url)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            console.print("Stopped.")
