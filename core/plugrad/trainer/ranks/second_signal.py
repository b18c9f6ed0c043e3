"""After a second Ctrl-C or SIGTERM the launcher kills ranks that do not end: one that is stopped notices no signal."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plugrad.trainer.ranks.rank_file import PeerFile

logger = logging.getLogger("plugrad")

PATIENCE_S = 10.0
ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def killing_after_second_signal(folder: Path, num_ranks: int) -> Iterator[None]:
    """While inside, kill the ranks that are still there `PATIENCE_S` after the second signal. `folder` has their files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # The numbers of the signals come through here, whoever handles them: PyTorch's launcher does.
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(reading, folder, num_ranks), name="plugrad-second-signal", daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        watch.join()
        os.close(reading)


def _watch(reading: int, folder: Path, num_ranks: int) -> None:
    count = 0
    while numbers := os.read(reading, 1):
        count += numbers[0] in ENDING
        if count == 2 and not _ends_within(reading, PATIENCE_S):
            _kill(folder, num_ranks)


def _ends_within(reading: int, seconds: float) -> bool:
    """Return whether the launcher is done in time; signals that come meanwhile are dropped."""
    until = time.monotonic() + seconds
    while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
        if not os.read(reading, 1):
            return True
    return False


def _kill(folder: Path, num_ranks: int) -> None:
    for rank in range(num_ranks):
        # One that has not got so far as to make its file ends at any signal.
        with suppress(OSError):
            peer = PeerFile.of(folder, rank)
            with peer.file:
                sign = peer.last_sign()
                # Otherwise it has ended, and another process may have its number.
                if sign and peer.is_held():
                    os.kill(sign.process, signal.SIGKILL)
                    logger.error("Rank %d (process %d) did not end within %.0f s: killed.", rank, sign.process, PATIENCE_S)
