"""A process that a plugin has forked and that comes back from its call: it may not train on beside its parent."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import NoReturn

_told = mmap.mmap(-1, 1)
"""A byte that all copies of this process share: whether one has told."""


def tell_again() -> None:
    """Let the next copy tell: another run begins."""
    _told[0] = 0


def end_copy(owner: str, error: BaseException | None) -> NoReturn:
    """End this process, a copy that returned from a call of `owner` or raised `error` there, and say why.

    Where the plugin itself ends it, by sys.exit, that is all that happens. Nothing is flushed: it belongs to the parent.
    """
    if isinstance(error, SystemExit):
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    if not _told[0]:
        _told[0] = 1
        how = f"raised {type(error).__name__}" if error else "returned"
        # Not by the log: another thread may have held its lock when the process was copied.
        note = (
            f"Note: {owner} called os.fork(), and the new process {how} into the run, in which there would be two trainers. "
            "It was ended, and the run goes on. Let it end with os._exit(0), or use multiprocessing.\n"
        )
        with suppress(OSError):
            os.write(2, note.encode())
    os._exit(1)
