"""`os._exit`, `os.exec*` and `os.abort` in a plugin's call: they end a run without a word, or as if it had succeeded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from plugrad.registry.calls_in_progress import is_in_a_call
from plugrad.shown import shown

ENDS = ("_exit", "abort", "execv", "execve")
"""All other `os.exec*` call one of these."""


@contextmanager
def no_exit_in_calls() -> Iterator[None]:
    """Make what ends this process raise SystemExit where a plugin calls it, so that the exception is the plugin's.

    In other threads, in forked processes and outside plugins' calls it ends the process as ever.
    """
    before = {name: getattr(os, name) for name in ENDS}
    for name, end in before.items():
        setattr(os, name, _raising_in_calls(name, end, os.getpid()))
    try:
        yield
    finally:
        for name, end in before.items():
            setattr(os, name, end)


def _raising_in_calls(name: str, end: Any, process: int) -> Any:
    def raise_in_calls(*arguments: Any) -> NoReturn:
        if is_in_a_call() and os.getpid() == process:
            # Of exec, the program: the others are its arguments and its environment.
            raise SystemExit(f"os.{name}({', '.join(map(shown, arguments[:1]))}{', ...' * (len(arguments) > 1)})")
        end(*arguments)

    return raise_in_calls
