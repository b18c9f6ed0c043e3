"""The commands: their arguments and options, from the command line's own definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from _reference.markdown import NOTHING, table
from plugrad.cli.main import app


def commands() -> str:
    """Return a heading, the help and the parameters of every command."""
    return "\n\n".join(_described(path, command) for path, command in all_commands())


def all_commands() -> Iterator[tuple[str, Any]]:
    """Yield every command with the words that call it."""
    yield from _below("plugrad", typer.main.get_command(app))


def parameters(command: Any) -> list[Any]:
    """Return the parameters of a command that a user can give, but for `--help`."""
    return [
        parameter for parameter in command.params if not getattr(parameter, "hidden", False) and parameter.name != "help"
    ]


def spelling(parameter: Any) -> str:
    """Return a parameter as it is typed, such as `--seed SEED`."""
    value = parameter.metavar or parameter.name.upper()
    if not parameter.opts[0].startswith("-"):
        return str(value)
    return ", ".join(parameter.opts) + ("" if parameter.is_flag else f" {value}")


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{path} {name}", inner)


def _described(path: str, command: Any) -> str:
    rows = [_row(parameter) for parameter in parameters(command)]
    parameter_table = table(("argument or option", "default", "meaning"), rows) if rows else ""
    return "\n\n".join(part for part in (f"### `{path}`", (command.help or "").strip(), parameter_table) if part)


def _row(parameter: Any) -> tuple[str, ...]:
    if not parameter.help:
        raise ValueError(f"the command line's {parameter.name!r} has no help.")
    default = parameter.default
    shown = "required" if parameter.required else NOTHING if default in (None, False) else f"`{default}`"
    return f"`{spelling(parameter)}`", shown, parameter.help
