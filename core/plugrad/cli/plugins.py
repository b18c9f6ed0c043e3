"""`plugrad plugins`: list what is installed, show one component, and find problems with the installation.

Each command imports what it needs when it runs, so that --help stays fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from plugrad.cli.reporting import reporting
from plugrad.cli.shared_options import REFERENCE, TRACEBACK

UNHEALTHY = 1
AS_JSON = typer.Option("--json", help="Print JSON, for programs.")

plugins_app = typer.Typer(help="List, show and diagnose the installed plugins.", invoke_without_command=True)


@plugins_app.callback()
def plugins(context: typer.Context) -> None:
    """List, show and diagnose the installed plugins. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_plugins()


@plugins_app.command("list")
def list_plugins(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """List the installed plugins by kind, without importing them."""
    with reporting() as console:
        from plugrad.cli.plugins_list import list_installed

        list_installed(console, as_json=as_json)


@plugins_app.command()
def show(
    reference: Annotated[str, REFERENCE],
    kind: Annotated[
        str | None,
        typer.Option(help="loss, advantage, metric, environment or extension. Needed for a file or a module."),
    ] = None,
    show_traceback: Annotated[bool, TRACEBACK] = False,
) -> None:
    """Show one component: what it does, its options and its needs."""
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.cli.plugins_show import show_components

        show_components(reference, kind, console)


@plugins_app.command()
def doctor(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Find problems with the installed plugins, and how to fix them. Exit code 1: there are problems."""
    with reporting() as console:
        from plugrad.cli.plugins_doctor import print_findings

        if not print_findings(console, as_json=as_json):
            raise typer.Exit(UNHEALTHY)
