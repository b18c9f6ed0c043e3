"""Processes that exit are restarted a few times, and their output is kept. Any process will do, so no vLLM is needed."""

import logging
import time

import pytest

from plugrad.errors import EngineError
from plugrad.rollout.servers.command import ServerCommand
from plugrad.rollout.servers.supervisor import MAX_RESTARTS, Supervisor, find_free_addresses, wait_until_any_healthy

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
    """Start a process for each piece of code."""
    supervisors = []

    def start(*codes):
        addresses = find_free_addresses(len(codes))
        commands = [
            ServerCommand(address, ["-c", code, address.rpartition(":")[2]], {}, None)
            for address, code in zip(addresses, codes, strict=True)
        ]
        supervisors.append(Supervisor(commands, tmp_path))
        return supervisors[-1]

    yield start
    for supervisor in supervisors:
        supervisor.close()


def wait_for_exits(supervisor, count):
    deadline = time.monotonic() + 20
    while len(supervisor.exit_messages()) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return supervisor.exit_messages()


def test_a_server_that_exits_is_restarted_twice_and_no_more(started, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "plugrad")
    supervisor = started("print('one life', flush=True); raise SystemExit(3)", SERVES)
    for number in range(MAX_RESTARTS + 2):
        [message] = wait_for_exits(supervisor, 1)
        assert "exited with code 3. The end of its log" in message
        lives = (tmp_path / "server-0.log").read_text().count("one life")
        assert lives == 1 + min(number, MAX_RESTARTS), "the output of earlier lives is kept"
        supervisor.restart_exited()
    assert caplog.text.count("restarting a server (") == MAX_RESTARTS
    assert (tmp_path / "server-1.log").read_text().count("serves") == 1, "the other one keeps running"


def test_a_restarted_server_responds_at_the_same_address(started, tmp_path):
    """The first process exits at once, after it has created a file."""
    dies_once = f"from pathlib import Path\ntry: Path({str(tmp_path / 'died')!r}).touch(exist_ok=False)\n"
    dies_once += "except FileExistsError: pass\nelse: raise SystemExit(1)\n"
    supervisor = started(dies_once + SERVES)
    with pytest.raises(EngineError, match="exited with code 1"):
        supervisor.wait_until_healthy(20)
    supervisor.restart_exited()
    assert supervisor.wait_until_healthy(20) < 20
    assert supervisor.exit_messages() == []


def test_waiting_for_any_ends_with_the_first_that_responds(started):
    late = f"import time; time.sleep(1)\n{SERVES}"
    supervisor = started("raise SystemExit(1)", late)
    addresses = supervisor.addresses
    start = time.monotonic()
    wait_until_any_healthy(addresses, 60, lambda: supervisor.any_running)
    assert 1 < time.monotonic() - start < 60
    assert len(supervisor.exit_messages()) == 1


def test_waiting_for_any_ends_when_none_can_respond(started):
    supervisor = started("raise SystemExit(1)", "raise SystemExit(1)")
    start = time.monotonic()
    wait_until_any_healthy(supervisor.addresses, 60, lambda: supervisor.any_running)
    assert time.monotonic() - start < 60
    assert len(supervisor.exit_messages()) == 2


def test_waiting_for_any_ends_after_the_timeout(started):
    supervisor = started("import time; time.sleep(60)")
    start = time.monotonic()
    wait_until_any_healthy(supervisor.addresses, 0.5, lambda: supervisor.any_running)
    assert 0.5 <= time.monotonic() - start < 30
