"""Servers that plugrad starts: killing one loses nothing, and none outlives its trainer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from plugrad.errors import EngineError

from .conftest import make_model


def test_killed_servers_lose_nothing_and_come_back_and_a_killed_trainer_leaves_none(tmp_path):
    trainer = subprocess.Popen(
        [sys.executable, Path(__file__).parent / "trainer.py", tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    found, started = {}, []
    try:
        for line in trainer.stdout:
            name, *values = line.split()
            if name == "started":
                started.append(int(values[0]))
            found[name] = values
            if name == "waits":
                break
    finally:
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
    for batch in range(2):
        assert int(found[f"in-flight-{batch}"][0]) > 0
        assert found[f"sizes-{batch}"] == ["4", "groups", "48"]
        # Each group belongs to its own prompt: after another's, log-probs would be far off.
        assert float(found[f"mismatch-{batch}"][0]) < 1e-5
    # The first batch continues with the other server; the second one waits for a restarted one.
    assert found["active-0"] == ["1"]
    assert found["active-1"] in (["1"], ["2"])
    # Both loaded the weights once they responded.
    assert found["active-again"] == ["2"]
    assert float(found["mismatch-again"][0]) < 1e-5
    # Two die_with_parent.py processes, and for each server the process that listens and its workers.
    assert len(started) >= 6
    assert wait_until_gone(started, timeout_s=30) == []


def wait_until_gone(pids, timeout_s):
    """Return which processes are still there at the end."""
    start = time.monotonic()
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() - start < timeout_s:
        time.sleep(0.1)
    return left


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_server_that_cannot_start_shows_the_end_of_its_log(open_engine, tmp_path):
    with pytest.raises(
        EngineError, match=r"exited with code .* The end of its log, .*server-0.log:\n(.*\n)*.*--no-such-flag"
    ):
        open_engine(make_model(), None, args=["--no-such-flag"])
    assert not [process for process in psutil.Process().children(recursive=True) if "--no-such-flag" in process.cmdline()]
