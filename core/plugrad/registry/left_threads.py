"""Threads and processes that plugins start: whose they are, and how the command ends although they are still running."""

from __future__ import annotations

import functools
import logging
import multiprocessing.process
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from plugrad.errors import ContractError
from plugrad.registry.calls_in_progress import owner_of_this_call

BaseProcess = multiprocessing.process.BaseProcess

logger = logging.getLogger("plugrad")

PATIENCE_S = 5.0
"""How long the command waits at its end for what plugins have left running."""
POLL_INTERVAL_S = 0.02

_left: list[threading.Thread] = []
"""Left by plugins that nobody asked for: nobody waits for them."""
_owners: WeakKeyDictionary[object, str] = WeakKeyDictionary()
"""By thread or process, whose call started it."""


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


def note_owners() -> None:
    """Note from now on whose call starts a thread or a process. What that thread starts is the same owner's."""
    for kind in (threading.Thread, BaseProcess):
        if not hasattr(kind.start, "__wrapped__"):
            kind.start = _noting(kind.start)  # type: ignore[method-assign]


def owner_of(thread: object) -> str | None:
    """Return whose call started a thread or a process, as far as it was noted."""
    return _owners.get(thread)


def outlast() -> bool:
    """Return whether threads or processes of plugins run on although the command has done its work. Their owners are told.

    It waits for a few seconds. Python itself would wait for ever.
    """
    deadline, started = time.monotonic() + PATIENCE_S, False
    while any(each not in _left for each in _running()) and time.monotonic() < deadline:
        if not started:
            # The threads of a pool end once Python asks them to, which waits for those that are busy.
            threading.Thread(target=_ask_pools_to_end, daemon=True).start()
            started = True
        time.sleep(POLL_INTERVAL_S)
    running = _running()
    told: dict[tuple[str, str], list[str]] = {}
    for each in running:
        if each not in _left:
            kind = "process" if isinstance(each, BaseProcess) else "thread"
            told.setdefault((_owners[each], kind), []).append(each.name)
        if isinstance(each, BaseProcess):
            each.kill()
    for (owner, kind), names in told.items():
        logger.error(
            "%s left a %s running (%s). The command ends without it. End it in on_run_end, or start it with daemon=True.",
            *(owner, kind, ", ".join(names)),
        )
    return bool(running)


def _running() -> list[threading.Thread | BaseProcess]:
    """Return what Python would wait for at its end, and plugins have started."""
    threads = [each for each in threading.enumerate() if not each.daemon and (each in _owners or each in _left)]
    return [*threads, *(each for each in multiprocessing.active_children() if not each.daemon and each in _owners)]


def _ask_pools_to_end() -> None:
    for at_exit in reversed(threading._threading_atexits):  # type: ignore[attr-defined]
        at_exit()


def _noting(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def noting(self: object, *args: Any, **kwargs: Any) -> Any:
        owner = owner_of_this_call() or _owners.get(threading.current_thread())
        if owner:
            _owners[self] = owner
        return start(self, *args, **kwargs)

    return noting
