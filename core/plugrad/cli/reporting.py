"""How the command line speaks: notices, and errors without a traceback of ours."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path

import pluggy
import typer
from rich.console import Console

import plugrad
from plugrad.errors import ContractError, PlugradError, RankError, RunInterrupted

INTERRUPTED = 130
BAD_INPUT = 2
TOLD_WITHIN_S = 10.0
"""Only a launcher that does not end the others lets a rank wait so long."""
# As a launcher of several processes says it.
IS_LAUNCHED = "WORLD_SIZE" in os.environ
IS_MAIN = os.environ.get("RANK", "0") == "0"
IS_FIRST_HERE = os.environ.get("LOCAL_RANK", "0") == "0"


class _Console(Console):
    """A console that falls silent when whoever reads it has gone: a run goes on without its reader."""

    def on_broken_pipe(self) -> None:
        """Write nothing more, at exit neither."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


@contextmanager
def reporting(*, show_traceback: bool = False) -> Iterator[Console]:
    """Yield the console to print on. A deliberate error ends the command with its message and exit code 2."""
    # Without rich's markup: it would take the brackets in `list[int]`, in a path or in a summary for its own.
    console = _Console(highlight=False, markup=False, emoji=False)
    errors = _Console(stderr=True, highlight=False, markup=False, emoji=False)
    _show_notices(errors)
    try:
        yield console
    except RankError as error:
        _let_it_be_told()
        raise typer.Exit(error.exit_code) from None
    except PlugradError as error:
        _show(error, errors, show_traceback)
        raise typer.Exit(BAD_INPUT) from None
    except RunInterrupted as stopped:
        if IS_MAIN:
            errors.print(str(stopped), soft_wrap=True)
        # A launcher takes the first code that is not zero for a failure, and ends the other ranks.
        raise typer.Exit(128 + stopped.signal if IS_MAIN else 0) from None
    except KeyboardInterrupt:
        if IS_MAIN:
            errors.print(
                "Interrupted at once. Finished steps, if any, are in metrics.jsonl; no model was saved.", soft_wrap=True
            )
        raise typer.Exit(INTERRUPTED) from None


def _show(error: PlugradError, console: Console, show_traceback: bool) -> None:
    notes: list[str] = getattr(error, "__notes__", [])
    # What every rank finds in the same run file and environment, one of them says; it knows of no other yet.
    if not (IS_FIRST_HERE or notes):
        _let_it_be_told()
        return
    if show_traceback:
        console.print("".join(traceback.format_exception(error)), soft_wrap=True)
    elif isinstance(error, ContractError) and error.__cause__ is not None:
        console.print(_their_traceback(error.__cause__), soft_wrap=True, end="")
    console.print("\n".join([f"{type(error).__name__}: {error}", *notes]), style="red", soft_wrap=True)


def _let_it_be_told() -> None:
    """Wait until the rank that tells the error has done so: a launcher ends all others once one has ended."""
    time.sleep(TOLD_WITHIN_S)


def _their_traceback(error: BaseException) -> str:
    """Format the traceback from the first frame that is neither plugrad's nor pluggy's: the plugin's own part."""
    ours = tuple(str(Path(module.__file__ or "").parent) for module in (plugrad, pluggy))
    frames = traceback.extract_tb(error.__traceback__)
    theirs = list(dropwhile(lambda frame: frame.filename.startswith(ours), frames))
    if not theirs:
        return ""
    lines = traceback.format_list(theirs) + traceback.format_exception_only(error)
    return "Traceback (of the plugin):\n" + "".join(lines).rstrip() + "\n"


def _show_notices(console: Console) -> None:
    class ToConsole(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(f"Note: {record.getMessage()}", style=style, soft_wrap=True)

    logger = logging.getLogger("plugrad")
    logger.handlers[:] = [ToConsole()]
    # Of several ranks, the others would repeat what the main one says.
    logger.setLevel(logging.INFO if IS_MAIN else logging.ERROR)
    logger.propagate = False
