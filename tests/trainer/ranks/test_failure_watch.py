"""What watches over the ranks ends with them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from plugrad.errors import RankError, TrainingError
from plugrad.trainer.ranks import failure_watch
from plugrad.trainer.ranks.failure import Failure
from plugrad.trainer.ranks.peers import Peers
from plugrad.trainer.ranks.rank_file import PeerFile
from plugrad.trainer.ranks.ranks import Ranks


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    """A launcher's store, which is read all the time."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setattr(failure_watch, "READ_EVERY_S", 0.0)
    return store


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a rank to notice by itself that another failed."""
    monkeypatch.setattr(failure_watch, "GRACE_S", 0.0)


@pytest.fixture
def lost(tmp_path: Path) -> PeerFile:
    """The file of a rank that ended without a word."""
    code = f"""
from pathlib import Path
from plugrad.trainer.ranks.rank_file import OwnFile
import os
own = OwnFile(Path({str(tmp_path)!r}), 1)
own.note(0, "the loss 'x'")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    return PeerFile.of(tmp_path, 1)


class Hears(logging.Handler):
    """Keeps what is logged, wherever else it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        self.event.set()


def test_a_rank_that_does_not_notice_that_another_is_gone_says_so_once_and_goes_on(
    store: TCPStore, lost: PeerFile, no_grace: None
) -> None:
    heard = Hears()
    logging.getLogger("plugrad").addHandler(heard)
    watcher = failure_watch._Watcher(Ranks(index=0, count=2), Peers(None, [lost], 2))
    try:
        watcher.start()
        assert heard.event.wait(60)
        watcher.stop()
    finally:
        logging.getLogger("plugrad").removeHandler(heard)
    assert len(heard.said) == 1
    assert "has ended in a call of the loss 'x' without an error" in heard.said[0]
    assert heard.said[0].endswith("stops at the next exchange with it.")


@pytest.mark.parametrize("is_saving", [False, True])
def test_a_rank_that_saves_the_model_is_not_ended(
    store: TCPStore, no_grace: None, monkeypatch: pytest.MonkeyPatch, is_saving: bool
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    peers = Peers()
    if is_saving:
        peers.noticed.set()
    watcher = failure_watch._Watcher(Ranks(index=0, count=2), peers)
    failure_watch._Board.join().post(Failure(1, "rank 1 is unwell", 1))
    watcher.start()
    watcher.join(60)
    assert ended == [1] * (not is_saving)


def lose_the_connection(said: Failure | None = None) -> None:
    with failure_watch.failing_together(Ranks(index=0, count=2)) as peers:
        peers.begin()
        if said:
            failure_watch._Board.join().post(said)
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")


def test_a_lost_connection_is_told_with_the_rank_that_is_gone(
    store: TCPStore, lost: PeerFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLUGRAD_LAUNCH_FOLDER", raising=False)
    monkeypatch.setattr(Peers, "meet", lambda ranks: Peers(None, [lost], 2))
    with pytest.raises(TrainingError, match=r"^rank 1 of 2 .* in a call of the loss 'x'") as found:
        lose_the_connection()
    assert found.value.exit_code == 1


def test_a_rank_that_said_why_it_stops_is_believed(store: TCPStore, lost: PeerFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peers, "meet", lambda ranks: Peers(None, [lost], 2))
    with pytest.raises(RankError, match="rank 1 is unwell"):
        lose_the_connection(said=Failure(1, "rank 1 is unwell", 1))


def test_no_thread_is_left_in_the_store_when_the_ranks_are_done(store: TCPStore) -> None:
    for _ in range(20):
        with failure_watch.failing_together(Ranks(index=0, count=2)):
            time.sleep(0.01)
        assert "plugrad-watcher" not in {thread.name for thread in threading.enumerate()}
