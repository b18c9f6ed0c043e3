"""Threads for what blocks in plays. They never keep a run from ending."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any


class PlayThreads(ThreadPoolExecutor):
    """The executor of `asyncio.to_thread`: a daemon thread for each call.

    A pool would make plays wait for one another's threads. And both asyncio and the interpreter join its threads at their
    end, so that one agent that hangs would hang the run. A `ThreadPoolExecutor` because asyncio takes no other.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in a thread of its own."""
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            # Whoever awaits the future gets it.
            except BaseException as error:
                future.set_exception(error)

        Thread(target=run, name="plugrad play", daemon=True).start()
        return future
