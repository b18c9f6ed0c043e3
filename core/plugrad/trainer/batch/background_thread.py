"""A background thread that runs functions one after another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Runs functions in order. Unlike with an executor, an interrupted process does not wait for the thread to end."""

    def __init__(self, name: str, begin: Callable[[], None]) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._is_closed = Event()
        self._thread = Thread(target=self._work, args=(begin,), name=name, daemon=True)
        self._thread.start()

    def do(self, act: Callable[[], T]) -> Future[T]:
        """Schedule a function; return its future result."""
        future: Future[T] = Future()
        self._tasks.put((future, act))
        return future

    def close(self, *, waits: bool = True) -> None:
        """Cancel what has not started and, if `waits`, wait for what has. A second call does nothing."""
        if self._is_closed.is_set():
            return
        self._is_closed.set()
        self._tasks.put(None)
        if waits:
            self._thread.join()

    def _work(self, begin: Callable[[], None]) -> None:
        begin()
        for future, act in iter(self._tasks.get, None):
            if self._is_closed.is_set():
                future.cancel()
            else:
                _settle(future, act)


def _settle(future: Future[T], act: Callable[[], T]) -> None:
    try:
        future.set_result(act())
    except BaseException as error:
        # Raised again where the result is read.
        future.set_exception(error)
