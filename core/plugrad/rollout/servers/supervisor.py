"""Servers that plugrad starts, and that end with it however it ends."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from plugrad.errors import EngineError
from plugrad.rollout.servers import die_with_parent
from plugrad.rollout.servers.command import ServerCommand
from plugrad.rollout.servers.server import Server, ServerError

LAST_LINES = 20
LOOKS_EVERY_S = 0.25
STOPS_WITHIN_S = die_with_parent.GRACE_S + 15
RESTARTS = 2
"""Of one server: what ends it more often than that will go on ending it."""

logger = logging.getLogger("plugrad")


@dataclass
class _Started:
    command: ServerCommand
    process: subprocess.Popen[bytes]
    log: Path | None
    num_restarts: int = 0

    @property
    def address(self) -> str:
        return self.command.address

    @property
    def end(self) -> str | None:
        """Say how it ended, if it has."""
        code = self.process.poll()
        return None if code is None else f"the server {self.address} ended with code {code}.{_last_lines(self.log)}"


class ServerProcesses:
    """The processes of some servers. They end when this is closed, and when this process ends in whatever way."""

    def __init__(self, commands: Sequence[ServerCommand], logs: Path | None) -> None:
        """Start the servers.

        Args:
            commands: one a server.
            logs: the folder for what they print, or None to let it be seen.

        Raises:
            EngineError: something else listens at one of their addresses.
        """
        for command in commands:
            _refuse_taken(command.address)
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
        self._started: list[_Started] = []
        self._restarting = Lock()
        """An update and a batch may find at once that a server has ended."""
        atexit.register(self.close)
        try:
            for number, command in enumerate(commands):
                log = _emptied(logs / f"server-{number}.log") if logs else None
                self._started.append(_Started(command, _start(command, log), log))
        except BaseException:
            self.close()
            raise

    def wait_until_well(self, timeout_s: float) -> float:
        """Wait until every server answers; return how many seconds that took.

        Raises:
            EngineError: one ended, or has not answered in time.
        """
        start = time.monotonic()
        for started in self._started:
            server = _asked_for_health(started.address)
            while not _is_well(server):
                self.check()
                if time.monotonic() - start > timeout_s:
                    raise EngineError(
                        f"the server {started.address} has not started within {timeout_s:g} s (rollout.server."
                        f"start_timeout_s).{_last_lines(started.log)}"
                    )
                time.sleep(LOOKS_EVERY_S)
        return time.monotonic() - start

    def check(self) -> None:
        """See that all still run.

        Raises:
            EngineError: one has ended.
        """
        for end in self.ends():
            raise EngineError(end)

    @property
    def any_runs(self) -> bool:
        """Whether one of them has not ended."""
        return any(started.end is None for started in self._started)

    def ends(self) -> list[str]:
        """Say of each that has ended how it did."""
        return [end for started in self._started if (end := started.end)]

    def restart_ended(self) -> None:
        """Start again what has ended, a few times at most, and do not wait for it: the others go on meanwhile."""
        with self._restarting:
            for started in self._started:
                if started.num_restarts < RESTARTS and started.end:
                    started.num_restarts += 1
                    logger.warning(f"started again ({started.num_restarts} of {RESTARTS} times at most): {started.end}")
                    started.process = _start(started.command, started.log)

    def close(self) -> None:
        """End the servers. Calling it again does nothing."""
        atexit.unregister(self.close)
        with self._restarting:
            ending, self._started = self._started, []
        for started in ending:
            if started.process.poll() is None:
                started.process.send_signal(signal.SIGTERM)
        for started in ending:
            try:
                started.process.wait(STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                started.process.kill()
                started.process.wait()


def wait_for_any(addresses: Iterable[str], timeout_s: float, may_answer: Callable[[], bool]) -> None:
    """Wait until one of the servers answers, for as long as one may, and no longer than that."""
    start = time.monotonic()
    servers = [_asked_for_health(address) for address in addresses]
    while not any(map(_is_well, servers)) and may_answer() and time.monotonic() - start < timeout_s:
        time.sleep(LOOKS_EVERY_S)
    for server in servers:
        server.close()


def free_addresses(count: int) -> list[str]:
    """Return addresses on this machine alone that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"http://127.0.0.1:{listening.getsockname()[1]}" for listening in sockets]
    for listening in sockets:
        listening.close()
    return addresses


def _refuse_taken(address: str) -> None:
    where = urlsplit(address)
    try:
        socket.create_server((str(where.hostname), where.port or 80), family=_family_of(str(where.hostname))).close()
    except OSError as error:
        raise EngineError(
            f"no server can be started at {address}: {error.strerror or error}. Stop what listens there, or choose another "
            "port."
        ) from error


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _start(command: ServerCommand, log: Path | None) -> subprocess.Popen[bytes]:
    # -P: a folder called vllm in the working directory is not the package.
    kept = [sys.executable, "-P", die_with_parent.__file__, str(os.getpid()), sys.executable, "-P", *command.arguments]
    # After what it said in an earlier life, if it had one.
    with open(log or os.devnull, "ab") as file:
        return subprocess.Popen(
            kept,
            env=command.full_environment,
            stdin=subprocess.DEVNULL,
            stdout=file if log else None,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
        )


def _emptied(log: Path) -> Path:
    log.write_bytes(b"")
    return log


def _asked_for_health(address: str) -> Server:
    return Server(address, {}, timeout_s=5.0)


def _is_well(server: Server) -> bool:
    try:
        server.get("/health")
    except ServerError:
        return False
    return True


def _last_lines(log: Path | None) -> str:
    if log is None:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return "".join([f" Its log, {log}, ends:", *(f"\n    {line}" for line in lines)])
