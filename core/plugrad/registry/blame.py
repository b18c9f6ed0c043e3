"""Whose error it is: whatever a plugin's code raises is the plugin's, except the user's own Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from plugrad.errors import PlugradError, WronglyMade
from plugrad.registry.calls_in_progress import InProgress
from plugrad.shown import printable
from plugrad.user_interrupt import Interrupts, UserInterrupt, interrupt_on_signal, knows_the_user

ONLY_PLUGRAD_ENDS_A_RUN = ". A plugin cannot end a run: to report a fault, raise an ordinary exception."


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
            signal.signal(signal.SIGINT, interrupt_on_signal)
        self._before = Interrupts.count

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: TracebackType | None) -> None:
        self._call.__exit__(_kind, error)
        handled_here = not self._in_main_thread or knows_the_user(signal.getsignal(signal.SIGINT))
        # Unless the plugin installed another one.
        if self._installed and signal.getsignal(signal.SIGINT) is interrupt_on_signal:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if error is None or _is_told(error):
            return
        if self._in_main_thread and Interrupts.count != self._before:
            # The plugin caught the user's Ctrl-C and raised something else.
            raise UserInterrupt(Interrupts.last) from error
        if isinstance(error, KeyboardInterrupt) and not handled_here:
            return
        raise self._as_error(error) from error


def told(error: BaseException) -> str:
    """Return type and message of a plugin's exception, for messages."""
    if isinstance(error, WronglyMade):
        return str(error)
    message = printable(error)
    return f"{_known_type(error).__name__}{': ' * bool(message)}{message}"


def _known_type(error: BaseException) -> type:
    """Return the type of an exception that its reader knows: plugrad raises some of its own in a plugin's code."""
    if isinstance(error, PlugradError):
        return type(error)
    return next(kind for kind in type(error).__mro__ if not kind.__module__.startswith("plugrad."))


def advice_for(error: BaseException) -> str:
    """Return a sentence for a plugin that tried to end the process; nothing for an ordinary exception."""
    return "" if isinstance(error, Exception) else ONLY_PLUGRAD_ENDS_A_RUN


def _is_told(error: BaseException) -> bool:
    """Return whether an exception says what it has to, whoever's code raised it."""
    return isinstance(error, PlugradError | UserInterrupt) and not isinstance(error, WronglyMade)
