"""An event loop that runs work for several threads, until one of them closes it."""

import asyncio
import signal
import threading
import time

import pytest

from plugrad.errors import EngineError
from plugrad.rollout.servers.event_loop import EventLoopThread

from .conftest import do_nothing


async def sleep_long():
    await asyncio.sleep(60)


def test_closing_cancels_what_another_thread_waits_for():
    loop, found, begun = EventLoopThread(), [], threading.Semaphore(0)

    def wait():
        # The second starts when the first is cancelled, while the loop ends.
        for _ in range(2):
            begun.release()
            with pytest.raises(EngineError, match="is closed"):
                loop.run(sleep_long)
            found.append(threading.current_thread())

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert all(begun.acquire(timeout=10) for _ in threads)
    time.sleep(0.1)
    loop.close(do_nothing)
    for thread in threads:
        thread.join(5)
    assert len(found) == 16


def test_the_last_function_runs_when_all_others_have_ended():
    loop, order, begun = EventLoopThread(), [], threading.Event()

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
            loop.run(works)

    thread = threading.Thread(target=wait)
    thread.start()
    assert begun.wait(10)
    loop.close(last)
    thread.join()
    assert order == ["worked", "last"]


def interrupt_when(begun):
    """Press Ctrl-C, as the main thread sees it."""

    def interrupt():
        begun.wait(10)
        # The main thread now waits for the result.
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()


def test_an_interrupt_of_the_caller_cancels_its_work():
    loop, begun, is_cancelled = EventLoopThread(), threading.Event(), threading.Event()

    async def works():
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    interrupt_when(begun)
    with pytest.raises(KeyboardInterrupt):
        loop.run(works)
    assert is_cancelled.wait(10)
    loop.close(do_nothing)


def test_an_interrupt_while_closing_still_ends_the_thread():
    loop, begun = EventLoopThread(), threading.Event()

    async def hangs():
        begun.set()
        await asyncio.sleep(60)

    interrupt_when(begun)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.close(hangs)
    assert time.monotonic() - start < 30
