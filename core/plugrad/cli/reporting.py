"""What every command prints beside its output: notices, and errors without plugrad's own traceback."""

from __future__ import annotations

import errno
import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import dropwhile
from pathlib import Path

import pluggy
import typer
from rich.console import Console

import plugrad
from plugrad.cli.output import Output
from plugrad.errors import ContractError, PlugradError, RankError, RunFileError, TrainingError
from plugrad.host.author import line_of
from plugrad.registry.blame import advice_for, told
from plugrad.run_result import RunInterrupted
from plugrad.shown import printable, printable_message
from plugrad.user_interrupt import signal_of

REPORT_TIMEOUT_S = 10.0
"""A rank waits this long only under a launcher that does not stop the others."""
EXHAUSTED = {
    errno.EMFILE: "This process may open too few files: raise the limit with `ulimit -n 4096`.",
    errno.ENFILE: "The machine has too many files open: end other processes, or raise its limit.",
    errno.ENOSPC: "The disk is full: make room.",
    errno.EDQUOT: "Your quota of the disk is used up: make room.",
}
"""What to do where the system has run out of something."""
# A launcher of several processes sets these variables.
IS_LAUNCHED = "WORLD_SIZE" in os.environ
IS_MAIN = os.environ.get("RANK", "0") == "0"
IS_FIRST_HERE = os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def reporting(*, show_traceback: bool = False, ends_itself: bool = False) -> Iterator[Console]:
    """Yield the console to print on. An expected error ends the command with its message and exit code.

    Args:
        show_traceback: also print the traceback of the error.
        ends_itself: the body raises SystemExit itself at its end. Otherwise it can only come from a plugin.
    """
    console, errors = Output(), Output(stderr=True)
    _show_notices(errors)
    try:
        with nullcontext() if ends_itself else _nobody_else_ends_it(), _failures_of_the_system():
            yield console
        if console.failure:
            raise RunFileError(
                f"standard output cannot be written: {console.failure}. The command has done its work, and what it printed "
                "is lost. Make room, or send the output elsewhere."
            )
    except RankError as error:
        if not error.is_told:
            _wait_for_the_report()
        raise typer.Exit(error.exit_code) from None
    except PlugradError as error:
        _show(error, errors, show_traceback)
        raise typer.Exit(error.exit_code) from None
    except RunInterrupted as stopped:
        if IS_MAIN:
            errors.print(str(stopped), soft_wrap=True)
        # A launcher treats the first non-zero exit code as a failure and stops the other ranks.
        raise typer.Exit(128 + stopped.signal if IS_MAIN else 0) from None
    except KeyboardInterrupt as stopped:
        if IS_MAIN:
            errors.print(" ".join(["Interrupted at once.", *getattr(stopped, "__notes__", [])]), soft_wrap=True)
        raise typer.Exit(128 + signal_of(stopped)) from None


@contextmanager
def _nobody_else_ends_it() -> Iterator[None]:
    """Turn what is meant to end the process into an error: code of a plugin, such as a `__repr__`, can raise it anywhere."""
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as end:
        line = line_of(end)
        error = ContractError(f"code of a plugin raised {told(end)}{f' ({line})' if line else ''}{advice_for(end)}")
        error.exit_code = getattr(end, "exit_code", error.exit_code)
        raise error from end


@contextmanager
def _failures_of_the_system() -> Iterator[None]:
    """Turn the errors of a system that has run out of something into ours, wherever they come up."""
    try:
        yield
    except PlugradError:
        raise
    except Exception as error:
        chain: BaseException | None = error
        while chain is not None and getattr(chain, "errno", None) not in EXHAUSTED:
            chain = chain.__cause__ or chain.__context__
        if chain is None:
            raise
        assert isinstance(chain, OSError)
        assert chain.errno is not None
        exhausted = TrainingError(f"the system refuses to go on: {printable(chain)}. {EXHAUSTED[chain.errno]}")
        exhausted.exit_code = getattr(error, "exit_code", exhausted.exit_code)
        raise exhausted from error


def _show(error: PlugradError, console: Console, show_traceback: bool) -> None:
    notes: list[str] = getattr(error, "__notes__", [])
    # Every rank finds the same error in the run file, so one rank prints it. The ranks are not connected yet.
    if not (IS_FIRST_HERE or notes):
        _wait_for_the_report()
        return
    if show_traceback:
        console.print(printable_message("".join(traceback.format_exception(error))), soft_wrap=True)
    elif isinstance(error, ContractError) and error.__cause__ is not None:
        console.print(printable_message(_plugin_traceback(error.__cause__)), soft_wrap=True, end="")
    console.print("\n".join([f"{type(error).__name__}: {error}", *map(printable, notes)]), style="red", soft_wrap=True)


def _wait_for_the_report() -> None:
    """Give the rank that reports the error time to print it: a launcher stops all ranks once one has ended."""
    time.sleep(REPORT_TIMEOUT_S)


def _plugin_traceback(error: BaseException) -> str:
    """Format the plugin's part of a traceback: from the first frame outside plugrad and pluggy."""
    ours = tuple(str(Path(module.__file__ or "").parent) for module in (plugrad, pluggy))
    frames = traceback.extract_tb(error.__traceback__)
    theirs = list(dropwhile(lambda frame: frame.filename.startswith(ours), frames))
    # A signal handler of plugrad's may have raised in the middle of the plugin.
    while theirs and theirs[-1].filename.startswith(ours):
        theirs.pop()
    if not theirs:
        return ""
    lines = traceback.format_list(theirs) + traceback.format_exception_only(error)
    return "Traceback (of the plugin):\n" + "".join(lines).rstrip() + "\n"


def _show_notices(console: Console) -> None:
    class ToConsole(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            style = "yellow" if record.levelno >= logging.WARNING else None
            console.print(printable_message(f"Note: {record.getMessage()}"), style=style, soft_wrap=True)

    logger = logging.getLogger("plugrad")
    logger.handlers[:] = [ToConsole()]
    # The other ranks would repeat the notices of the main one.
    logger.setLevel(logging.INFO if IS_MAIN else logging.ERROR)
    logger.propagate = False
