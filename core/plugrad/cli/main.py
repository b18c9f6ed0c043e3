"""`plugrad`: the command line, with its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from plugrad import __version__
from plugrad.cli.check import check
from plugrad.cli.compare import compare
from plugrad.cli.diagnose import diagnose
from plugrad.cli.export import export
from plugrad.cli.fit import fit
from plugrad.cli.new import new
from plugrad.cli.output import drop_unwritten, ignore_impossible_widths, open_what_is_closed, print_whatever_the_encoding
from plugrad.cli.plugins import plugins_app
from plugrad.cli.quickstart import quickstart
from plugrad.cli.replay import replay
from plugrad.cli.report import report
from plugrad.cli.reporting import IS_LAUNCHED, reporting
from plugrad.cli.serve import serve
from plugrad.cli.train import train
from plugrad.errors import PlugradError
from plugrad.paths import working_directory
from plugrad.processes import leave_out_working_directory
from plugrad.registry import left_threads

app = typer.Typer(
    name="plugrad",
    help="Train language models with RL, and swap any part (loss, advantage, metric, environment) with one line of TOML.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(fit)
app.command()(serve)
app.command()(compare)
app.command()(diagnose)
app.command()(replay)
app.command()(report)
app.command()(export)
app.add_typer(plugins_app, name="plugins")
app.command()(check)
app.command()(new)
app.command()(quickstart)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"plugrad {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. No import finds anything in the working directory, where a run can write."""
    open_what_is_closed()
    ignore_impossible_widths()
    print_whatever_the_encoding()
    _refuse_planted_modules(leave_out_working_directory())
    left_threads.note_owners()
    if IS_LAUNCHED:
        from plugrad.trainer.ranks.rank_exit import run_as_rank

        run_as_rank(_call)
    try:
        _call()
    except BaseException as end:
        if left_threads.outlast():
            from plugrad.trainer.ranks.rank_exit import end_process, exit_code_of

            end_process(exit_code_of(end))
        raise


def _call() -> None:
    """Call the command. Its help and its version are printed by others, who know nothing of a full disk."""
    try:
        with reporting(ends_itself=True):
            working_directory()
            app()
    except typer.Exit as end:
        raise SystemExit(end.exit_code) from None
    finally:
        drop_unwritten()


def _refuse_planted_modules(names: list[str]) -> None:
    if names:
        typer.echo(
            f"PlugradError: Python imported {', '.join(sorted(names)[:5])} from the working directory, where a run can "
            "write, before plugrad could prevent it. Start `plugrad`, or `python -P -m plugrad`, without that folder in "
            "PYTHONPATH.",
            err=True,
        )
        raise SystemExit(PlugradError.exit_code)
