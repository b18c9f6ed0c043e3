"""Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP in training: the step ends and the model is saved. A second Ctrl-C ends it at once."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from signal import Signals
from types import FrameType

from plugrad.registry.calls_in_progress import longest_call
from plugrad.trainer.ranks.ranks import Ranks
from plugrad.user_interrupt import HANGUP, WARNING, handling_signals, interrupt, raises_user_interrupt

WORTH_NAMING_S = 5.0
"""A plugin that has been working for longer is named: the step cannot end before it."""

STOPPING = "Stopping after this step, and saving the model."
SAVED = "The run is complete and its model saved; waiting for on_run_end."

logger = logging.getLogger("plugrad")


@dataclass
class StopRequest:
    """Whether the run was asked to stop, and by which signal."""

    signal: Signals | None = None
    own: Signals | None = None
    """The first signal that this process got. One that every rank gets may come here after the ranks have agreed on it."""
    is_more_than_warned: bool = False
    """Whether this process got a signal other than a warning: one more ends it at once."""
    is_saved: bool = False
    """Whether the run is complete and its model saved: only extensions are still working."""
    announces: bool = True
    """Whether it logs that the run stops: one of several ranks does."""
    misses_a_rank: Callable[[], bool] = lambda: False
    """Returns whether another rank has ended: its launcher then ends this one, and nobody asked the run to stop."""

    def agree(self, ranks: Ranks) -> bool:
        """Return whether any rank was asked to stop, so that all stop after the same step."""
        asked = [number for number in ranks.gather(self.own) if number is not None]
        if asked:
            self.signal = asked[0]
        return bool(asked)

    @raises_user_interrupt
    def note(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal: note the first, raise KeyboardInterrupt at the second."""
        if number == HANGUP:
            _leave_a_terminal_that_is_gone()
        # Slurm's own SIGTERM comes after its warning, and the step may still be under way.
        if self.is_more_than_warned or number == self.own:
            if number in (HANGUP, WARNING):
                # Both the system and the shell send the first where a terminal is closed. Neither asks to stop at once.
                return
            interrupt(number)
        # Slurm's script asks whether it was the warning that ended the run.
        self.own, self.is_more_than_warned = self.own or Signals(number), number != WARNING
        is_known, self.signal = self.signal is not None, self.own
        if not self.announces or is_known or (number == signal.SIGTERM and not self.is_saved and self.misses_a_rank()):
            return
        again = {HANGUP: "SIGTERM", WARNING: "A second SIGTERM", signal.SIGINT: "Ctrl-C again"}.get(
            self.signal, "SIGTERM again"
        )
        # A signal may come in the middle of a write to the same stream, which then refuses a second one.
        with suppress(RuntimeError):
            logger.warning("%s %s stops at once.%s", SAVED if self.is_saved else STOPPING, again, _waiting_for())


def _waiting_for() -> str:
    call = longest_call()
    return f" {call}." if call and call.seconds > WORTH_NAMING_S else ""


def _leave_a_terminal_that_is_gone() -> None:
    """Write to the null device what would go to a terminal that is gone, where a plugin's `print` would raise."""
    import termios

    for number in (1, 2):
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


@contextmanager
def stop_requests(stop: StopRequest) -> Iterator[None]:
    """Note signals in `stop` while inside. In a thread other than the main one, which cannot, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    warning = [] if WARNING is None else [WARNING]
    with handling_signals(stop.note, signal.SIGINT, signal.SIGTERM, *warning):
        yield
