"""The user's Ctrl-C, which plugrad's own signal handlers raise: a KeyboardInterrupt of a plugin is none."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

MARK = "raises_user_interrupt"
HANGUP = getattr(signal, "SIGHUP", None)
"""The terminal was closed. Windows has no such signal."""
WARNING = getattr(signal, "SIGUSR1", None)
"""How Slurm warns of the end of a job's time (`--signal=USR1@120`). Windows has no such signal."""


class UserInterrupt(KeyboardInterrupt):
    """The user's Ctrl-C, as plugrad's own signal handlers raise it. A KeyboardInterrupt of a plugin is none."""

    # In a traceback it reads as what it is to the user.
    __module__, __qualname__ = "builtins", "KeyboardInterrupt"


class Interrupts:
    """How often `interrupt` was called, and by which signal."""

    count = 0
    last: int = signal.SIGINT


def interrupt(number: int) -> NoReturn:
    """Raise the user's interrupt, from a signal handler that `raises_user_interrupt`."""
    Interrupts.count += 1
    Interrupts.last = number
    raise UserInterrupt(number)


def raises_user_interrupt(handler: Callable[..., None]) -> Callable[..., None]:
    """Mark a signal handler of plugrad's: every KeyboardInterrupt that it raises comes from `interrupt`."""
    handler.__dict__[MARK] = True
    return handler


@raises_user_interrupt
def interrupt_on_signal(number: int, _frame: FrameType | None) -> None:
    """Handle a signal: raise the user's interrupt."""
    interrupt(number)


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], None], *numbers: int) -> Iterator[None]:
    """Have these signals handled while inside, and SIGHUP unless nohup has it ignored. For the main thread alone."""
    hangup = [] if HANGUP is None or signal.getsignal(HANGUP) is signal.SIG_IGN else [HANGUP]
    before = {number: signal.signal(number, handler) for number in [*numbers, *hangup]}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def signal_of(error: KeyboardInterrupt) -> int:
    """Return which signal an interrupt comes from: SIGINT where it does not say."""
    return next((int(number) for number in error.args if isinstance(number, int)), signal.SIGINT)


def may_be_the_users(error: BaseException) -> bool:
    """Return whether an exception may be the user's Ctrl-C, and is not certainly that of the code which it came from."""
    if isinstance(error, UserInterrupt):
        return True
    in_main_thread = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and in_main_thread and not knows_the_user(signal.getsignal(signal.SIGINT))


def knows_the_user(handler: Any) -> bool:
    """Return whether the user's Ctrl-C is plugrad's to handle, or reaches no Python code at all."""
    return handler in (signal.SIG_IGN, signal.SIG_DFL) or bool(getattr(handler, MARK, False))
