"""Limit the time of a plugin's call. The error of a call that hangs names the plugin and where it hung."""

from __future__ import annotations

import _thread
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from plugrad.errors import ContractError
from plugrad.host.alarms import ALARMS

logger = logging.getLogger("plugrad")

NOTICE_AFTER_S = 10.0
PATIENCE_S = 5.0
"""How long to wait for an interrupt to work. Code that does not return to Python never sees it."""


@contextmanager
def time_limit(seconds: float, owner: str, remedy: str) -> Iterator[None]:
    """Interrupt the body after `seconds`, as Ctrl-C would.

    The body stays in the main thread, where plugins may use signals of their own. Other threads cannot be interrupted and
    have no limit. If the code never returns to Python, a warning names its owner, and the code keeps running.

    Raises:
        ContractError: the body took too long. The interrupt is the `__cause__`; its traceback ends where the plugin hung.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    expired, ended = threading.Event(), threading.Event()

    def expire() -> None:
        expired.set()
        _interrupt_main_thread()
        threading.Thread(target=tell, daemon=True).start()

    def tell() -> None:
        if not ended.wait(PATIENCE_S):
            logger.warning(
                "%s did not return within %g s and cannot be interrupted. Kill this process to stop it.", owner, seconds
            )

    try:
        with _sigint_raises():
            ALARMS.set(ended, seconds, expire)
            try:
                yield
            finally:
                # No interrupt can arrive after it.
                ended.set()
                ALARMS.drop(ended)
    except KeyboardInterrupt as interrupt:
        if not expired.is_set():
            raise
        raise ContractError(f"{owner} did not return within {seconds:g} s. {remedy}") from interrupt


@contextmanager
def waiting_notice(what: str) -> Iterator[None]:
    """Log what the user is waiting for after ten seconds. Reading data or importing may take long."""
    timer = threading.Timer(NOTICE_AFTER_S, logger.info, ["Still waiting for %s.", what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _sigint_raises() -> Iterator[None]:
    """Make SIGINT raise in the body even if the process ignores it, as in the background of a script."""
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
    # Unlike interrupt_main, a signal also ends a sleep or a blocking read.
    signal.pthread_kill(ident, signal.SIGINT)
