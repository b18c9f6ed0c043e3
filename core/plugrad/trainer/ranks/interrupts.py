"""Ctrl-C and SIGTERM in training: the first finishes the step and saves the model, the second ends the run at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from plugrad.registry.calls_in_progress import longest_call
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.user_interrupt import interrupt, raises_user_interrupt

WORTH_NAMING_S = 5.0
"""A plugin that has been working for longer is named: the step cannot end before it."""

logger = logging.getLogger("plugrad")


@dataclass
class StopRequest:
    """Whether the run was asked to stop, and by which signal."""

    signal: signal.Signals | None = None
    announces: bool = True
    """Whether it logs that the run stops: one of several ranks does."""

    def agree(self, ranks: Ranks) -> bool:
        """Return whether any rank was asked to stop, so that all stop after the same step."""
        asked = [number for number in ranks.gather(self.signal) if number is not None]
        if asked:
            self.signal = asked[0]
        return bool(asked)

    @raises_user_interrupt
    def note(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: note the first, raise KeyboardInterrupt at the second."""
        if self.signal is not None:
            interrupt()
        self.signal = signal.Signals(number)
        if not self.announces:
            return
        again = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        # A signal may come in the middle of a write to the same stream, which then refuses a second one.
        with suppress(RuntimeError):
            logger.warning(
                "Stopping after this step, and saving the model. %s again stops at once.%s", again, _waiting_for()
            )


def _waiting_for() -> str:
    call = longest_call()
    return f" {call}." if call and call.seconds > WORTH_NAMING_S else ""


@contextmanager
def stop_requests(stop: StopRequest) -> Iterator[None]:
    """Note signals in `stop` while inside. In a thread other than the main one, which cannot, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
