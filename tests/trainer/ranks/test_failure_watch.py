"""What watches over the ranks ends with them."""

from __future__ import annotations

import threading
import time

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from plugrad.trainer.ranks import failure_watch
from plugrad.trainer.ranks.ranks import Ranks


def test_no_thread_is_left_in_the_store_when_the_ranks_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setattr(failure_watch, "READ_EVERY_S", 0.0)
    for _ in range(20):
        with failure_watch.failing_together(Ranks(index=0, count=2)):
            time.sleep(0.01)
        assert "plugrad-watcher" not in {thread.name for thread in threading.enumerate()}
