"""Which plugin is being called, in which thread, and since when: for whoever waits for it, or finds the process gone."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from plugrad.registry.copied_process import end_copy

logger = logging.getLogger("plugrad")

LOOK_EVERY_S = 1.0
FIRST_NOTICE_S = 60.0
"""How long a plugin works before a notice says so; each further notice comes after twice the time."""


@dataclass(frozen=True)
class CallInProgress:
    """A plugin's call that has not returned."""

    owner: str
    since: float
    """By `time.monotonic`."""

    @property
    def seconds(self) -> float:
        """How long it has been working."""
        return time.monotonic() - self.since

    def __str__(self) -> str:
        return f"{self.owner} has been working for {self.seconds:.0f} s"


class Mirror(Protocol):
    """Is told the innermost call of each thread, as it changes: to keep it where another process can read it, say."""

    def note(self, thread: int, owner: str) -> None:
        """Note whose call it is, or "" if the thread is in none."""


class _Mirrors:
    current: tuple[Mirror, ...] = ()


_calls: dict[int, list[CallInProgress]] = {}
"""By thread, the innermost last."""
_mirrors = _Mirrors()


class InProgress:
    """Note a plugin's call while the body runs."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        self._process = os.getpid()
        self._thread = threading.get_ident()
        self._stack = _calls.setdefault(self._thread, [])
        self._stack.append(CallInProgress(self._owner, time.monotonic()))
        for mirror in _mirrors.current:
            mirror.note(self._thread, self._owner)

    def __exit__(self, _kind: object = None, error: BaseException | None = None, *_: object) -> None:
        if os.getpid() != self._process:
            end_copy(self._owner, error)
        self._stack.pop()
        for mirror in _mirrors.current:
            mirror.note(self._thread, self._stack[-1].owner if self._stack else "")


@contextmanager
def mirrored_in(mirror: Mirror) -> Iterator[None]:
    """Also note the calls of the body in `mirror`, which this process alone writes."""
    _mirrors.current = (*_mirrors.current, mirror)
    try:
        yield
    finally:
        _mirrors.current = tuple(each for each in _mirrors.current if each is not mirror)


def _forget_mirrors() -> None:
    _mirrors.current = ()


# The memory of a mirror is shared with forked processes, and they are others.
os.register_at_fork(after_in_child=_forget_mirrors)


def is_in_a_call() -> bool:
    """Return whether this thread is in a plugin's call."""
    return bool(_calls.get(threading.get_ident()))


def owner_of_this_call() -> str | None:
    """Return whose call this thread is in, or None."""
    stack = _calls.get(threading.get_ident())
    return stack[-1].owner if stack else None


def longest_call() -> CallInProgress | None:
    """Return the plugin's call that has taken longest so far, in any thread, or None."""
    innermost = [stack[-1] for stack in list(_calls.values()) if stack]
    return min(innermost, key=lambda call: call.since, default=None)


@contextmanager
def long_calls_noticed(where: str = "", first_s: float = FIRST_NOTICE_S) -> Iterator[None]:
    """Log which plugin has been working for how long: after `first_s` seconds, and after each doubling of that time.

    Args:
        where: follows the notice, such as the rank.
        first_s: when the first notice comes.
    """
    ended = threading.Event()
    look_every_s = min(LOOK_EVERY_S, first_s / 2)

    def watch() -> None:
        notices = _Notices(first_s)
        while not ended.wait(look_every_s):
            call = longest_call()
            if call is not None and notices.is_due(call):
                # An error in the log's terms: ranks other than the first log nothing less.
                logger.error("%s%s. Ctrl-C twice stops the run at once.", call, where)

    watcher = threading.Thread(target=watch, name="plugrad-long-calls", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


class _Notices:
    """Decides when a call has taken so long that it is time for the next notice."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self._call: CallInProgress | None = None
        self._after_s = first_s

    def is_due(self, call: CallInProgress) -> bool:
        """Return True once the call has taken `first_s` seconds, twice as many, and so on."""
        if call is not self._call:
            self._call, self._after_s = call, self._first_s
        if call.seconds < self._after_s:
            return False
        self._after_s *= 2
        return True
