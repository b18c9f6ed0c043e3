"""Whose error it is: whatever a plugin's code raises is the plugin's, except the user's own Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn

from plugrad.errors import PlugradError, WronglyMade
from plugrad.registry.calls_in_progress import InProgress
from plugrad.shown import printable

ONLY_PLUGRAD_ENDS_A_RUN = ". A plugin cannot end a run: to report a fault, raise an ordinary exception."


class UserInterrupt(KeyboardInterrupt):
    """The user's Ctrl-C, as plugrad's own signal handlers raise it. A KeyboardInterrupt of a plugin is none."""

    # In a traceback it reads as what it is to the user.
    __module__, __qualname__ = "builtins", "KeyboardInterrupt"


class Blamed:
    """Turn every exception of the body, `SystemExit` and `CancelledError` too, into an error that names the plugin.

    While the body runs, it counts as a call of `owner`.

    Errors of plugrad pass unchanged, unless they are about an object that the plugin made, and so does the user's Ctrl-C. A
    KeyboardInterrupt counts as the plugin's only where it cannot be the user's: in the main thread, plugrad's own handler
    must have been in place.
    """

    def __init__(self, owner: str, as_error: Callable[[BaseException], PlugradError]) -> None:
        self._as_error = as_error
        self._call = InProgress(owner)

    def __enter__(self) -> None:
        self._call.__enter__()
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self._installed = self._in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._installed:
            signal.signal(signal.SIGINT, _interrupt)
        self._before = _interrupts.count

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: TracebackType | None) -> None:
        self._call.__exit__()
        knows_the_user = not self._in_main_thread or _knows_the_user(signal.getsignal(signal.SIGINT))
        # Unless the plugin installed another one.
        if self._installed and signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if error is None or _is_told(error):
            return
        if self._in_main_thread and _interrupts.count != self._before:
            # The plugin caught the user's Ctrl-C and raised something else.
            raise UserInterrupt from error
        if isinstance(error, KeyboardInterrupt) and not knows_the_user:
            return
        raise self._as_error(error) from error


def told(error: BaseException) -> str:
    """Return type and message of a plugin's exception, for messages."""
    if isinstance(error, WronglyMade):
        return str(error)
    message = printable(error)
    return f"{type(error).__name__}{': ' * bool(message)}{message}"


def advice_for(error: BaseException) -> str:
    """Return a sentence for a plugin that tried to end the process; nothing for an ordinary exception."""
    return "" if isinstance(error, Exception) else ONLY_PLUGRAD_ENDS_A_RUN


def _is_told(error: BaseException) -> bool:
    """Return whether an exception says what it has to, whoever's code raised it."""
    return isinstance(error, PlugradError | UserInterrupt) and not isinstance(error, WronglyMade)


def interrupt() -> NoReturn:
    """Raise the user's interrupt, from a signal handler that `raises_user_interrupt`."""
    _interrupts.count += 1
    raise UserInterrupt


def raises_user_interrupt(handler: Callable[..., None]) -> Callable[..., None]:
    """Mark a signal handler of plugrad's: every KeyboardInterrupt that it raises comes from `interrupt`."""
    handler.__dict__[MARK] = True
    return handler


MARK = "raises_user_interrupt"


class _Interrupts:
    """How often `interrupt` was called."""

    count = 0


_interrupts = _Interrupts()


@raises_user_interrupt
def _interrupt(_number: int, _frame: FrameType | None) -> None:
    interrupt()


def _knows_the_user(handler: Any) -> bool:
    """Return whether the user's Ctrl-C is plugrad's to handle, or reaches no Python code at all."""
    return handler in (signal.SIG_IGN, signal.SIG_DFL) or bool(getattr(handler, MARK, False))
