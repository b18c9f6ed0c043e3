"""Calls at given times from one thread, for limits of calls that take less time than it takes to start a thread."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable


class Alarms:
    """Calls what is due. Its one thread is asleep until then: an alarm that is dropped in time costs next to nothing.

    What is called holds up the other alarms, and `drop` waits for it.
    """

    def __init__(self) -> None:
        """Begin without alarms, and without a thread."""
        self._changed = threading.Condition(threading.RLock())
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wakes_at = math.inf
        self._thread: threading.Thread | None = None

    def set(self, key: object, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` after so many seconds, unless the key is dropped before."""
        at = time.monotonic() + seconds
        with self._changed:
            self._due[key] = (at, act)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="alarms", daemon=True)
                self._thread.start()
            if at < self._wakes_at:
                self._changed.notify()

    def drop(self, key: object) -> None:
        """Forget an alarm. After this, it is not called any more."""
        with self._changed:
            self._due.pop(key, None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                self._wakes_at = min((at for at, _ in self._due.values()), default=math.inf)
                left = self._wakes_at - time.monotonic()
                if left > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                for key, (at, act) in list(self._due.items()):
                    if at <= time.monotonic():
                        del self._due[key]
                        act()


ALARMS = Alarms()

if hasattr(os, "register_at_fork"):
    # A child has no threads but its own, and perhaps a lock that nobody gives back.
    os.register_at_fork(after_in_child=ALARMS.__init__)
