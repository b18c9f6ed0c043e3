"""One rank fails, all end: what is told by whom, so that the error that came first is the one that is read."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from plugrad.errors import PlugradError, RankError, TrainingError
from plugrad.trainer.ranks.ranks import Ranks

logger = logging.getLogger("plugrad")

LOOKS_EVERY_S = 1.0
ANSWERS_WITHIN_S = 30.0
GRACE_S = 15.0
"""Between another rank's failure and the end of this process by force: enough to notice it in the next collective."""
KEY = "plugrad/failed"


@dataclass(frozen=True)
class Failure:
    """What a rank says of its failure."""

    rank: int
    message: str
    exit_code: int

    @classmethod
    def of(cls, error: BaseException, ranks: Ranks) -> Failure:
        """Describe an error of this rank."""
        message = f"{ranks.name}: {type(error).__name__}: {error}"
        return cls(ranks.index, message, exit_code=2 if isinstance(error, PlugradError) else 1)

    def as_error(self) -> RankError:
        """Return what the other ranks raise."""
        return RankError(self.message, self.exit_code)


@contextmanager
def failing_together(ranks: Ranks) -> Iterator[None]:
    """Inside, an exception on one rank ends all of them, and the others raise RankError with its message."""
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
        first = board.post(Failure.of(lost or error, ranks))
        if first.rank != ranks.index:
            raise first.as_error() from error
        if lost:
            raise lost from error
        name_ranks(error, [ranks.index], ranks)
        raise
    finally:
        watcher.stop()


def name_ranks(error: BaseException, failed: Sequence[int], ranks: Ranks) -> None:
    """Note on an error of this rank that not all ranks have it."""
    others = f", and of {', '.join(map(str, failed[1:]))}" if failed[1:] else ""
    error.add_note(f"This is the error of {ranks.name}{others}. All ranks stop.")


def _lost_contact(error: Exception) -> TrainingError | None:
    """What a collective raises when another rank has gone does not say why it went; say what is known."""
    network = isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))
    if not network or isinstance(error, PlugradError):
        return None
    return TrainingError(
        "another rank has gone in the middle of an exchange. What it printed says why; if it printed nothing, the system "
        "ended it, most often for want of memory."
    )


class _Board:
    """Where the first failure is written for all to see: the launcher's key-value store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def join(cls) -> _Board:
        """Connect to the store through which the ranks found each other."""
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return cls(TCPStore(host, port, is_master=False, timeout=timedelta(seconds=ANSWERS_WITHIN_S)))

    def post(self, failure: Failure) -> Failure:
        """Write a failure unless there is one; return the one that came first."""
        try:
            mine = json.dumps(vars(failure))
            return Failure(**json.loads(self._store.compare_set(KEY, "", mine)))
        except (RuntimeError, ValueError):
            # The store has gone with the rank or launcher that kept it: whose failure it was is not known any more.
            return failure

    def read(self) -> Failure | None:
        """Return the first failure, if there is one.

        Raises:
            RuntimeError: the store has gone.
        """
        return Failure(**json.loads(self._store.get(KEY))) if self._store.check([KEY]) else None


class _Watcher(threading.Thread):
    """Ends this process when another rank has failed and this one does not notice: it may be computing, or hang."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(name="plugrad-watcher", daemon=True)
        # A second connection: one connection serves one thread at a time.
        self._board = _Board.join()
        self._ranks = ranks
        self._over = threading.Event()

    def stop(self) -> None:
        """Watch no longer.

        It waits for a look that is under way: a thread that returns from the store's C++ into an interpreter that is
        ending is unwound there, and C++ answers with SIGABRT, after all the work was done well.
        """
        self._over.set()
        self.join(ANSWERS_WITHIN_S)

    def run(self) -> None:
        """Look until there is a failure, or nothing to look at."""
        while not self._over.wait(LOOKS_EVERY_S):
            try:
                failure = self._board.read()
            except Exception:
                failure = Failure(self._ranks.index, "the launcher has gone", 1)
            if failure is not None:
                self._end(failure)
                return

    def _end(self, failure: Failure) -> None:
        if self._over.wait(GRACE_S):
            return
        logger.error("%s stops after %.0f s: %s", self._ranks.name, GRACE_S, failure.message)
        os._exit(failure.exit_code)
