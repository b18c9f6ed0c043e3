"""When one rank fails, all ranks stop, and every one reports the failure that came first."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from plugrad.errors import PlugradError, RankError, TrainingError
from plugrad.launcher_watch import LAUNCH_FOLDER, is_watched
from plugrad.registry.calls_in_progress import mirrored_in
from plugrad.trainer.ranks.failure import Failure, add_rank_note
from plugrad.trainer.ranks.peers import Peers
from plugrad.trainer.ranks.ranks import Ranks

logger = logging.getLogger("plugrad")

READ_EVERY_S = 1.0
TIMEOUT_S = 30.0
GRACE_S = 15.0
"""From another rank's failure to the forced end of this process: enough time to notice it in the next collective."""
KEY = "plugrad/failed"
STOPPED = (
    "another rank stopped in the middle of an exchange. Its output shows why. If it printed nothing, the system killed it, "
    "most often because memory ran out."
)


@contextmanager
def failing_together(ranks: Ranks) -> Iterator[Peers]:
    """Stop all ranks when one raises inside: the others raise RankError with its message. Yield the others on this machine.

    A rank that ends without raising stops the others, too, and is named with the plugin that it was calling.
    """
    if ranks.count == 1:
        yield Peers()
        return
    peers = Peers.meet(ranks)
    board, watcher = _Board.join(), _Watcher(ranks, peers)
    watcher.start()
    try:
        with mirrored_in(peers.own) if peers.own else nullcontext():
            yield peers
    except Exception as error:
        if isinstance(error, RankError) or (isinstance(error, PlugradError) and error.is_known_to_all):
            raise
        lost = _lost_contact(error, peers, board)
        first = board.post(Failure.of(lost or error, ranks.index, ranks.name))
        if first.rank != ranks.index:
            raise first.as_error() from error
        if lost:
            raise lost from error
        add_rank_note(error, ranks.name, [ranks.index])
        raise
    finally:
        watcher.stop()
        peers.leave()


def _lost_contact(error: Exception, peers: Peers, board: _Board) -> TrainingError | None:
    """Return what is known where a collective fails because another rank is gone: its own error gives no reason."""
    network = isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))
    if not network or isinstance(error, PlugradError):
        return None
    # A rank that could still say why it stops has done so before it went.
    failure = None if board.has_failure() else peers.lost_soon()
    if failure and LAUNCH_FOLDER in os.environ:
        # The launcher reads the same file, and knows the exit code.
        told = failure.as_error()
        told.is_told = True
        return told
    lost = TrainingError(failure.message if failure else STOPPED)
    lost.exit_code = peers.exit_code
    # Otherwise only the first rank of a host prints it, which may be the one that is gone.
    lost.add_note("All ranks stop.")
    return lost


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

    def has_failure(self) -> bool:
        """Return whether a failure has been posted, as far as can be known."""
        with suppress(RuntimeError, ValueError):
            return self.read() is not None
        return False

    def read(self) -> Failure | None:
        """Return the first failure, if there is one.

        Raises:
            RuntimeError: the store is gone.
        """
        return Failure(**json.loads(self._store.get(KEY))) if self._store.check([KEY]) else None


class _Watcher(threading.Thread):
    """Ends this process when another rank failed and this one does not notice, because it computes or hangs."""

    def __init__(self, ranks: Ranks, peers: Peers) -> None:
        super().__init__(name="plugrad-watcher", daemon=True)
        # A second connection: one connection serves one thread at a time.
        self._board = _Board.join()
        self._ranks = ranks
        self._peers = peers
        self._stopped = threading.Event()
        self._has_told = False

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
                if is_watched():
                    # This rank finishes its step, saves the model and ends.
                    return
                failure = Failure(self._ranks.index, "the launcher is gone", 1)
            if failure is not None:
                self._end_process(failure)
                return
            self._tell_of_a_lost_rank()
            silent = self._peers.silent()
            if silent:
                logger.error("%s", silent)

    def _tell_of_a_lost_rank(self) -> None:
        """Say, once, that a rank is gone where this one does not notice. It then still saves the model, so it goes on."""
        lost = None if self._has_told else self._peers.lost()
        if lost is None:
            return
        self._has_told = True
        if not (self._stopped.wait(GRACE_S) or self._peers.noticed.is_set()):
            logger.error("%s %s stops at the next exchange with it.", lost.message, self._ranks.name)

    def _end_process(self, failure: Failure) -> None:
        if self._stopped.wait(GRACE_S) or self._peers.noticed.is_set():
            return
        logger.error("%s stops after %.0f s: %s", self._ranks.name, GRACE_S, failure.message)
        self._peers.leave()
        os._exit(failure.exit_code)
