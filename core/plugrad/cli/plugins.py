"""`plugrad plugins`: what is installed, what one component takes, and what is wrong with the installation.

What each command needs is imported when it runs: the help of any command waits for none of it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from plugrad.cli.reporting import reporting

UNHEALTHY = 1
AS_JSON = typer.Option("--json", help="Print JSON, for programs.")

plugins_app = typer.Typer(help="Show what is installed.", invoke_without_command=True)


@plugins_app.callback()
def plugins(context: typer.Context) -> None:
    """Show what is installed."""
    if context.invoked_subcommand is None:
        list_plugins()


@plugins_app.command("list")
def list_plugins(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """List the installed plugins by kind. Imports none of them."""
    with reporting() as console:
        from plugrad.cli.plugins_list import list_installed

        list_installed(console, as_json=as_json)


@plugins_app.command()
def show(
    reference: Annotated[str, typer.Argument(help="A name, package/name, module:function or file.py:function.")],
    kind: Annotated[
        str | None,
        typer.Option(help="loss, advantage, metric, environment or extension; needed where two kinds share a name."),
    ] = None,
    show_traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole of an error.")] = False,
) -> None:
    """Show one component: what it does, its options, what it needs. Imports that component alone."""
    with reporting(show_traceback=show_traceback) as console:
        from plugrad.cli.plugins_show import show_components

        show_components(reference, kind, console)


@plugins_app.command()
def doctor(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Say what is wrong with the installed plugins, and what to do; exit code 1 if anything is. Imports none of them."""
    with reporting() as console:
        from plugrad.cli.plugins_doctor import is_healthy

        if not is_healthy(console, as_json=as_json):
            raise typer.Exit(UNHEALTHY)
