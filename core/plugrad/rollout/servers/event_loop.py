"""An event loop in a thread of its own, for the requests of several threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack
from threading import Lock
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

from plugrad.errors import EngineError

T = TypeVar("T")


class EventLoopThread:
    """Runs async functions for callers in any thread, on AnyIO's blocking portal."""

    def __init__(self) -> None:
        self._exit = ExitStack()
        self._portal = self._exit.enter_context(start_blocking_portal())
        self._portal_tasks = self._portal.call(asyncio.all_tasks)
        self._starting, self._is_closed = Lock(), False

    def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run an async function in the loop and return its result. Interrupting the caller cancels it.

        Raises:
            EngineError: the loop is closed, or is closed before the function returns.
        """
        future = self.start(function)
        try:
            return future.result()
        except CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    def start(self, function: Callable[[], Awaitable[T]]) -> Future[T]:
        """Begin to run an async function in the loop; return its result to come. Closing the loop cancels it.

        Raises:
            EngineError: the loop is closed.
        """
        # The lock keeps a call from reaching a loop that is about to end, where it would wait forever.
        with self._starting:
            if self._is_closed:
                raise _closed()
            return self._portal.start_task_soon(function)

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Cancel all running tasks, run `last` when they have ended, and end the thread."""
        with self._starting:
            self._is_closed = True
        with self._exit:
            self._portal.call(self._cancel_tasks_then, last)

    async def _cancel_tasks_then(self, last: Callable[[], Awaitable[None]]) -> None:
        tasks = asyncio.all_tasks() - self._portal_tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await last()


def _closed() -> EngineError:
    return EngineError("the engine is closed and accepts no more requests.")
