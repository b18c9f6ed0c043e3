"""How the process of a rank ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


def run_as_rank(main: Callable[[], object]) -> NoReturn:
    """Call the main function of a rank's process, and end the process as Python does, but for its very last step.

    Threads are waited for, exit handlers run, and output is written. Only the interpreter is not taken apart. PyTorch's
    threads may still hold tensors of the last exchange: one that lets go of them meanwhile cannot have the interpreter's
    lock any more, is unwound in the middle of C++, and ends the process with SIGABRT, after all was done and said.
    Source: https://github.com/pytorch/pytorch/pull/179291
    """
    code = _exit_code(main)
    # What Python calls before that step, and multiprocessing before it ends a process in the same way.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Nobody may be there to read it any more.
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
