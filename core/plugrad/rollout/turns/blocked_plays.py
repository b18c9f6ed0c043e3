"""Ends plays that block the event loop of all, for example with `subprocess.run` in an asynchronous function."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

TICKS = 4
"""How often in its time limit a play is looked at."""


class PlayTimeout(Exception):
    """The environment's part of a play took longer than it may."""


@contextmanager
def blocked_plays_end(time_limit_s: float, give_back: Callable[[float], None]) -> Iterator[None]:
    """Raise `PlayTimeout` in a play that lets nobody else do anything for so long. Use it in the task that waits for plays.

    Only a signal interrupts code that blocks, and signals reach the main thread alone: in another thread, on Windows, and
    where SIGALRM has an owner, nothing is done.

    Args:
        time_limit_s: of a play.
        give_back: called with the seconds that a play took from the others.
    """
    alarm = getattr(signal, "SIGALRM", None)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if alarm is None or not in_main_thread or signal.getsignal(alarm) is not signal.SIG_DFL:
        yield
        return
    tick_s = time_limit_s / TICKS
    signal.signal(alarm, _Watch(time_limit_s - tick_s / 2, give_back).look)
    signal.setitimer(signal.ITIMER_REAL, tick_s, tick_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(alarm, signal.SIG_DFL)


class _Watch:
    """Asks the event loop for a sign of life again and again."""

    def __init__(self, limit_s: float, give_back: Callable[[float], None]) -> None:
        self._limit_s, self._give_back = limit_s, give_back
        self._loop, self._own_task = asyncio.get_running_loop(), asyncio.current_task()
        self._alive()

    def _alive(self) -> None:
        self._since, self._is_asked = monotonic(), False

    def look(self, number: int, frame: FrameType | None) -> None:
        """End what blocks. The signal's handler."""
        task = asyncio.current_task(self._loop)
        if task is None or task is self._own_task:
            # The loop waits, or the engine generates.
            self._alive()
        elif not self._is_asked:
            self._since, self._is_asked = monotonic(), True
            self._loop.call_soon_threadsafe(self._alive)
        elif monotonic() - self._since >= self._limit_s:
            self._give_back(monotonic() - self._since)
            self._alive()
            raise PlayTimeout
