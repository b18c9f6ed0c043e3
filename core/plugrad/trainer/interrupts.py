"""Ctrl-C and SIGTERM in training: the first lets the step finish and the model be saved, the second ends the run at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

logger = logging.getLogger("plugrad")


@dataclass
class StopRequest:
    """Whether somebody asked the run to stop, and by which signal."""

    signal: signal.Signals | None = None

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        again = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        # A signal may come in the middle of a write to the same stream, which then refuses a second one.
        with suppress(RuntimeError):
            logger.warning("Stopping after this step, and saving the model. %s again stops at once.", again)


@contextmanager
def stop_requests(stop: StopRequest) -> Iterator[None]:
    """Note signals in `stop` while inside. Only the main thread can; elsewhere nothing is ever requested."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
