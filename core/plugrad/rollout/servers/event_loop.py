"""An event loop in a thread of its own, which several threads can give work to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from threading import Lock, Thread
from typing import Any, TypeVar

from plugrad.errors import EngineError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for whoever calls, from any thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_closed, self._starting = False, Lock()
        self._thread = Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return what it returns. An interrupt of the caller cancels it.

        Raises:
            EngineError: the loop was closed, before or meanwhile.
        """
        with self._starting:
            if self._is_closed:
                coroutine.close()
                raise _closed()
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise

    def call(self, act: Callable[[], T]) -> T:
        """Run a function in the loop's thread, where what coroutines share may be changed."""

        async def acting() -> T:
            return act()

        return self.run(acting())

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cancel what still runs, run `last`, and end the thread."""
        # Whoever comes after this is refused: nobody waits for a loop that has ended.
        with self._starting:
            self._is_closed = True
            future = asyncio.run_coroutine_threadsafe(_cancel_others_and(last), self._loop)
        try:
            future.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _cancel_others_and(last: Coroutine[Any, Any, None]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last


def _closed() -> EngineError:
    return EngineError("the servers were asked for something, and the engine is closed.")
