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

    Threads are joined, exit handlers run and output is flushed, but the interpreter is not torn down. PyTorch's threads
    may still hold tensors of the last exchange. A thread that releases them during teardown cannot take the interpreter's
    lock any more, is unwound inside C++, and aborts the process with SIGABRT after all work was done.
    Source: https://github.com/pytorch/pytorch/pull/179291
    """
    end_process(_exit_code(main))


def end_process(code: int) -> NoReturn:
    """End the process as Python does, without the very last step, and without threads that nobody asked for."""
    # Python calls these two before that step, and so does multiprocessing before it ends a process in the same way.
    if not left_threads.are_running():
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # The reader may be gone.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _exit_code(main: Callable[[], object]) -> int:
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0
