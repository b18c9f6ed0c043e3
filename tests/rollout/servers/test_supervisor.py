"""Processes that end: started again a few times, and what they said is kept. No vLLM: it is about processes."""

import logging
import time

import pytest

from plugrad.errors import EngineError
from plugrad.rollout.servers.command import ServerCommand
from plugrad.rollout.servers.supervisor import RESTARTS, ServerProcesses, free_addresses, wait_for_any

SERVES = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
print("serves", flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def started(tmp_path):
    """Start what runs this code, one process a code."""
    made = []

    def start(*codes):
        addresses = free_addresses(len(codes))
        commands = [
            ServerCommand(address, ["-c", code, address.rpartition(":")[2]], {}, None)
            for address, code in zip(addresses, codes, strict=True)
        ]
        made.append(ServerProcesses(commands, tmp_path))
        return made[-1]

    yield start
    for processes in made:
        processes.close()


def wait_for_ends(processes, count):
    deadline = time.monotonic() + 20
    while len(processes.ends()) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return processes.ends()


def test_what_ends_is_started_again_so_often_and_no_more(started, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "plugrad")
    processes = started("print('one life', flush=True); raise SystemExit(3)", SERVES)
    for number in range(RESTARTS + 2):
        [end] = wait_for_ends(processes, 1)
        assert "ended with code 3. Its log" in end
        lives = (tmp_path / "server-0.log").read_text().count("one life")
        assert lives == 1 + min(number, RESTARTS), "what it said in earlier lives is kept"
        processes.restart_ended()
    assert caplog.text.count("started again") == RESTARTS
    assert (tmp_path / "server-1.log").read_text().count("serves") == 1, "the other one was left alone"


def test_a_second_life_answers_at_the_same_address(started, tmp_path):
    """The first one ends at once, with the file that it makes."""
    dies_once = f"from pathlib import Path\ntry: Path({str(tmp_path / 'died')!r}).touch(exist_ok=False)\n"
    dies_once += "except FileExistsError: pass\nelse: raise SystemExit(1)\n"
    processes = started(dies_once + SERVES)
    with pytest.raises(EngineError, match="ended with code 1"):
        processes.wait_until_well(20)
    processes.restart_ended()
    assert processes.wait_until_well(20) < 20
    assert processes.ends() == []


def test_who_waits_for_any_goes_on_with_the_first_that_answers(started):
    late = f"import time; time.sleep(1)\n{SERVES}"
    processes = started("raise SystemExit(1)", late)
    addresses = [each.address for each in processes._started]
    start = time.monotonic()
    wait_for_any(addresses, 60, lambda: processes.any_runs)
    assert 1 < time.monotonic() - start < 60
    assert len(processes.ends()) == 1


def test_who_waits_for_any_waits_no_longer_than_one_may_answer(started):
    processes = started("raise SystemExit(1)", "raise SystemExit(1)")
    start = time.monotonic()
    wait_for_any([each.address for each in processes._started], 60, lambda: processes.any_runs)
    assert time.monotonic() - start < 60
    assert len(processes.ends()) == 2


def test_who_waits_for_any_waits_no_longer_than_told_to(started):
    processes = started("import time; time.sleep(60)")
    start = time.monotonic()
    wait_for_any([each.address for each in processes._started], 0.5, lambda: processes.any_runs)
    assert 0.5 <= time.monotonic() - start < 30
