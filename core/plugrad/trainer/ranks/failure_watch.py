"""When one rank fails, all ranks stop, and every one reports the failure that came first."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from plugrad.errors import PlugradError, RankError, TrainingError
from plugrad.trainer.ranks.failure import Failure, add_rank_note
from plugrad.trainer.ranks.ranks import Ranks

logger = logging.getLogger("plugrad")

READ_EVERY_S = 1.0
TIMEOUT_S = 30.0
GRACE_S = 15.0
"""From another rank's failure to the forced end of this process: enough time to notice it in the next collective."""
KEY = "plugrad/failed"


@contextmanager
def failing_together(ranks: Ranks) -> Iterator[None]:
    """Stop all ranks when one raises inside: the others raise RankError with its message."""
    if ranks.count == 1:
        yield
        return
    board, watcher = _Board.join(), _Watcher(ranks)
    watcher.start()
    try:
        yield
    except Exception as error:
        if isinstance(error, RankError) or (isinstance(error, PlugradError) and error.is_known_to_all):
            raise
        lost = _lost_contact(error)
        first = board.post(Failure.of(lost or error, ranks.index, ranks.name))
        if first.rank != ranks.index:
            raise first.as_error() from error
        if lost:
            raise lost from error
        add_rank_note(error, ranks.name, [ranks.index])
        raise
    finally:
        watcher.stop()


def _lost_contact(error: Exception) -> TrainingError | None:
    """Return what is known where a collective fails because another rank is gone: its own error gives no reason."""
    network = isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))
    if not network or isinstance(error, PlugradError):
        return None
    return TrainingError(
        "another rank stopped in the middle of an exchange. Its output shows why. If it printed nothing, the system "
        "killed it, most often because memory ran out."
    )


class _Board:
    """Keeps the first failure where all ranks can read it: in the launcher's key-value store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def join(cls) -> _Board:
        """Connect to the store through which the ranks found each other."""
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return cls(TCPStore(host, port, is_master=False, timeout=timedelta(seconds=TIMEOUT_S)))

    def post(self, failure: Failure) -> Failure:
        """Write a failure unless there is one already; return the first."""
        try:
            mine = json.dumps(vars(failure))
            return Failure(**json.loads(self._store.compare_set(KEY, "", mine)))
        except (RuntimeError, ValueError):
            # The store went down with the rank or launcher that kept it: which rank failed is no longer known.
            return failure

    def read(self) -> Failure | None:
        """Return the first failure, if there is one.

        Raises:
            RuntimeError: the store is gone.
        """
        return Failure(**json.loads(self._store.get(KEY))) if self._store.check([KEY]) else None


class _Watcher(threading.Thread):
    """Ends this process when another rank failed and this one does not notice, because it computes or hangs."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(name="plugrad-watcher", daemon=True)
        # A second connection: one connection serves one thread at a time.
        self._board = _Board.join()
        self._ranks = ranks
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop watching, and wait for a read that is under way.

        Otherwise the thread could return from the store's C++ code into an interpreter that is shutting down. It is then
        unwound inside C++, which aborts the process with SIGABRT after all work was done.
        """
        self._stopped.set()
        self.join(TIMEOUT_S)

    def run(self) -> None:
        """Read until there is a failure, or the store is gone."""
        while not self._stopped.wait(READ_EVERY_S):
            try:
                failure = self._board.read()
            except Exception:
                failure = Failure(self._ranks.index, "the launcher is gone", 1)
            if failure is not None:
                self._end_process(failure)
                return

    def _end_process(self, failure: Failure) -> None:
        if self._stopped.wait(GRACE_S):
            return
        logger.error("%s stops after %.0f s: %s", self._ranks.name, GRACE_S, failure.message)
        os._exit(failure.exit_code)
