"""Exit a rank's process cleanly."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from plugrad.registry import left_threads


def run_as_rank(main: Callable[[], object]) -> NoReturn:
    """Call the main function of a rank's process, then end the process as Python does, without the very last step.

    Threads are joined unless plugins have left them, exit handlers run and output is flushed, but the interpreter is not
    torn down. PyTorch's threads may still hold tensors of the last exchange. A thread that releases them during teardown
    cannot take the interpreter's lock any more, is unwound inside C++, and aborts the process with SIGABRT after all work
    was done.
    Source: https://github.com/pytorch/pytorch/pull/179291
    """
    code = _exit_code(main)
    if not left_threads.outlast():
        threading._shutdown()  # type: ignore[attr-defined]
    end_process(code)


def end_process(code: int) -> NoReturn:
    """End the process as Python does, without the very last step, and without its threads."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # The reader may be gone.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code with which Python ends after this exception, and print what it prints."""
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if isinstance(error.code, str):
        sys.stderr.write(f"{error.code}\n")
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def _exit_code(main: Callable[[], object]) -> int:
    try:
        main()
    except BaseException as error:
        return exit_code_of(error)
    return 0
