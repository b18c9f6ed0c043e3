"""`os._exit` in a plugin's call: it would end the process without a word, and with 0 it would look like success."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from plugrad.registry.calls_in_progress import is_in_a_call


@contextmanager
def no_exit_in_calls() -> Iterator[None]:
    """Make `os._exit` raise SystemExit where a plugin calls it in this process, so that the exception is the plugin's.

    In other threads, in forked processes and outside plugins' calls it ends the process as ever.
    """
    end, process = os._exit, os.getpid()

    def raise_in_calls(status: int) -> NoReturn:
        if is_in_a_call() and os.getpid() == process:
            raise SystemExit(f"os._exit({status})")
        end(status)

    os._exit = raise_in_calls
    try:
        yield
    finally:
        os._exit = end
