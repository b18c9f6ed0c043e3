"""Options that several commands share."""

from __future__ import annotations

import typer

SETS = typer.Option("--set", metavar="KEY=VALUE", help="Override a key, as in --set loss.kwargs.clip_eps=0.1. Repeatable.")
TRACEBACK = typer.Option("--traceback", help="Show the full traceback of an error.")
REFERENCE = typer.Argument(help="A name, package/name, module:function or file.py:function.")
