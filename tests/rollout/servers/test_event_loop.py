"""An event loop that several threads give work to, and that one of them ends."""

import asyncio
import threading
import time

import pytest

from plugrad.errors import EngineError
from plugrad.rollout.servers.event_loop import LoopThread

from .conftest import nothing


async def long():
    await asyncio.sleep(60)


def test_closing_gives_up_what_another_thread_waits_for():
    loop, found, begun = LoopThread("test"), [], threading.Semaphore(0)

    def wait():
        # The second is asked for when the first was given up, while the loop ends.
        for _ in range(2):
            begun.release()
            with pytest.raises(EngineError, match="is closed"):
                loop.run(long())
            found.append(threading.current_thread())

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert all(begun.acquire(timeout=10) for _ in threads)
    time.sleep(0.1)
    loop.close(nothing())
    for thread in threads:
        thread.join(5)
    assert len(found) == 16


def test_the_last_is_run_when_all_else_has_ended():
    loop, order, begun = LoopThread("test"), [], threading.Event()

    async def works():
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            order.append("worked")

    async def last():
        order.append("last")

    def wait():
        with pytest.raises(EngineError):
            loop.run(works())

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(10)
    loop.close(last())
    thread.join()
    assert order == ["worked", "last"]
