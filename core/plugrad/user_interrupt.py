"""The user's Ctrl-C, which plugrad's own signal handlers raise: a KeyboardInterrupt of a plugin is none."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

MARK = "raises_user_interrupt"


class UserInterrupt(KeyboardInterrupt):
    """The user's Ctrl-C, as plugrad's own signal handlers raise it. A KeyboardInterrupt of a plugin is none."""

    # In a traceback it reads as what it is to the user.
    __module__, __qualname__ = "builtins", "KeyboardInterrupt"


class Interrupts:
    """How often `interrupt` was called."""

    count = 0


def interrupt() -> NoReturn:
    """Raise the user's interrupt, from a signal handler that `raises_user_interrupt`."""
    Interrupts.count += 1
    raise UserInterrupt


def raises_user_interrupt(handler: Callable[..., None]) -> Callable[..., None]:
    """Mark a signal handler of plugrad's: every KeyboardInterrupt that it raises comes from `interrupt`."""
    handler.__dict__[MARK] = True
    return handler


@raises_user_interrupt
def interrupt_on_signal(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal: raise the user's interrupt."""
    interrupt()


def may_be_the_users(error: BaseException) -> bool:
    """Return whether an exception may be the user's Ctrl-C, and is not certainly that of the code which it came from."""
    if isinstance(error, UserInterrupt):
        return True
    in_main_thread = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and in_main_thread and not knows_the_user(signal.getsignal(signal.SIGINT))


def knows_the_user(handler: Any) -> bool:
    """Return whether the user's Ctrl-C is plugrad's to handle, or reaches no Python code at all."""
    return handler in (signal.SIG_IGN, signal.SIG_DFL) or bool(getattr(handler, MARK, False))
