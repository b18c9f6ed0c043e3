"""Reading from another process within limits of time and size."""

from __future__ import annotations

import os
import select
import time


class NotInTime(Exception):
    """It took too long, or there was too much of it."""


def read_some(pipe: int, until: float) -> bytes:
    """Return what comes next from a pipe; nothing at its end.

    Raises:
        NotInTime: nothing came until `until`, a time on the monotonic clock.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise NotInTime
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN | select.POLLHUP)
    if not waiting.poll(left * 1000):
        raise NotInTime
    return os.read(pipe, 2**16)


def read_all(pipe: int, until: float, most: int) -> bytes:
    """Return everything until the end of a pipe.

    Raises:
        NotInTime: it took longer than `until`, or there are more than `most` bytes.
    """
    found = bytearray()
    while part := read_some(pipe, until):
        found += part
        if len(found) > most:
            raise NotInTime
    return bytes(found)
