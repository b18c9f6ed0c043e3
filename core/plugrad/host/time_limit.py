"""A limit on the time that a plugin's call may take: one that hangs is ended with its name and where it hung."""

from __future__ import annotations

import _thread
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from plugrad.errors import ContractError

logger = logging.getLogger("plugrad")

NOTICE_AFTER_S = 10.0
PATIENCE_S = 5.0
"""How long an interrupt may take to work: code that does not return to Python never sees it."""


@contextmanager
def time_limit(seconds: float, owner: str, remedy: str) -> Iterator[None]:
    """Interrupt what runs inside after `seconds`, as Ctrl-C would.

    The call stays in the main thread, where plugins may use signals of their own. In another thread nothing can be
    interrupted, and there is no limit; code that never returns to Python is named in a warning and goes on.

    Raises:
        ContractError: it took too long. The interrupt is the `__cause__`: its traceback ends where the plugin hung.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    expired, ended = threading.Event(), threading.Event()

    def expire() -> None:
        expired.set()
        _interrupt_main_thread()
        if not ended.wait(PATIENCE_S):
            logger.warning(
                "%s did not come back within %g s and cannot be interrupted. End this process to stop it.", owner, seconds
            )

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    try:
        with _heard():
            timer.start()
            try:
                yield
            finally:
                # Once the timer's thread has ended, no interrupt can come any more.
                ended.set()
                timer.cancel()
                timer.join()
    except KeyboardInterrupt as interrupt:
        if not expired.is_set():
            raise
        raise ContractError(f"{owner} did not come back within {seconds:g} s. {remedy}") from interrupt


@contextmanager
def waiting_notice(what: str) -> Iterator[None]:
    """Say after ten seconds for what the user is waiting: reading data or importing may rightly take long."""
    timer = threading.Timer(NOTICE_AFTER_S, logger.info, ["Still waiting for %s.", what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _heard() -> Iterator[None]:
    """Let an interrupt be heard inside, also where it is ignored, as in the background of a script."""
    before = signal.getsignal(signal.SIGINT)
    if callable(before) or before is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt_main_thread() -> None:
    if not hasattr(signal, "pthread_kill"):
        _thread.interrupt_main()
        return
    ident = threading.main_thread().ident
    assert ident is not None
    # A signal, unlike interrupt_main, also ends a sleep or a read that waits.
    signal.pthread_kill(ident, signal.SIGINT)
