"""Threads that a plugin which nobody asked for has left running: the process ends without them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from plugrad.errors import ContractError

_left: list[threading.Thread] = []


@contextmanager
def leaving_no_thread(owner: str) -> Iterator[None]:
    """Note the threads that the body leaves running and for which Python would wait at its end.

    Raises:
        ContractError: there are some, and the body raised nothing.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        new = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
        _left.extend(new)
    if new:
        raise ContractError(
            f"{owner} left a thread running ({', '.join(thread.name for thread in new)}), for which the process would wait "
            "before it ends. Start it with daemon=True, or when it is needed."
        )


def are_running() -> bool:
    """Return whether one of these threads would keep the process from ending."""
    return any(thread.is_alive() for thread in _left)
