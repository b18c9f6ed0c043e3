"""Start servers, restart those that exit, and stop them when this process ends in any way."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from urllib.parse import urlsplit

from plugrad.errors import EngineError, ServersLost
from plugrad.paths import open_bytes, read_bytes
from plugrad.processes import PYTHON
from plugrad.rollout.servers import die_with_parent
from plugrad.rollout.servers.command import ServerCommand
from plugrad.rollout.servers.server import Server, ServerError

NUM_LOG_LINES = 20
POLL_INTERVAL_S = 0.25
STOP_TIMEOUT_S = die_with_parent.GRACE_S + 15
MAX_RESTARTS = 2
"""Per server. If a server exits more often than that, restarting it does not help."""

logger = logging.getLogger("plugrad")


@dataclass
class _ServerProcess:
    command: ServerCommand
    process: subprocess.Popen[bytes]
    log: Path | None
    num_restarts: int = 0

    @property
    def address(self) -> str:
        return self.command.address

    @property
    def exit_message(self) -> str | None:
        """How it exited, with the end of its log, or None while it runs."""
        code = self.process.poll()
        return None if code is None else f"the server {self.address} exited with code {code}.{_last_lines(self.log)}"


class Supervisor:
    """Runs the processes of some servers. They stop when it is closed, and when this process ends in any way."""

    def __init__(self, commands: Sequence[ServerCommand], logs: Path | None) -> None:
        """Start the servers.

        Args:
            commands: one per server.
            logs: the folder for their output, or None to show it.

        Raises:
            EngineError: another process listens at one of the addresses.
        """
        for command in commands:
            _check_port_is_free(command.address)
        if logs:
            _create_folder(logs)
        self._processes: list[_ServerProcess] = []
        self._restarting = Lock()
        """A weight update and a batch may both notice that a server has exited."""
        atexit.register(self.close)
        try:
            for number, command in enumerate(commands):
                log = _create_log(logs / f"server-{number}.log") if logs else None
                self._processes.append(_ServerProcess(command, _start(command, log), log))
        except BaseException:
            self.close()
            raise

    @property
    def addresses(self) -> list[str]:
        """The servers' addresses."""
        return [process.address for process in self._processes]

    def wait_until_healthy(self, timeout_s: float) -> float:
        """Wait until every server responds. Return the seconds this took.

        Raises:
            EngineError: a server exited, or did not respond in time.
        """
        start = time.monotonic()
        for process in self._processes:
            server = _health_client(process.address)
            while not _is_healthy(server):
                self.check_running()
                if time.monotonic() - start > timeout_s:
                    raise EngineError(
                        f"the server {process.address} did not start within {timeout_s:g} s (rollout.server."
                        f"start_timeout_s).{_last_lines(process.log)}"
                    )
                time.sleep(POLL_INTERVAL_S)
        return time.monotonic() - start

    def check_running(self) -> None:
        """Check that all servers run.

        Raises:
            EngineError: a server has exited.
        """
        for message in self.exit_messages():
            raise ServersLost(message)

    @property
    def any_running(self) -> bool:
        """Whether at least one server runs."""
        return any(process.exit_message is None for process in self._processes)

    def exit_messages(self) -> list[str]:
        """Return how each server that has exited did so."""
        return [message for process in self._processes if (message := process.exit_message)]

    def restart_exited(self) -> None:
        """Restart the servers that have exited, each `MAX_RESTARTS` times at most. Does not wait until they respond."""
        with self._restarting:
            for process in self._processes:
                if process.num_restarts < MAX_RESTARTS and process.exit_message:
                    process.num_restarts += 1
                    count = f"{process.num_restarts} of at most {MAX_RESTARTS} times"
                    logger.warning(f"restarting a server ({count}): {process.exit_message}")
                    process.process = _start(process.command, process.log)

    def close(self) -> None:
        """Stop the servers. Calling it again does nothing."""
        atexit.unregister(self.close)
        with self._restarting:
            stopping, self._processes = self._processes, []
        for process in stopping:
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGTERM)
        for process in stopping:
            try:
                process.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.process.kill()
                process.process.wait()


def wait_until_any_healthy(addresses: Iterable[str], timeout_s: float, may_respond: Callable[[], bool]) -> None:
    """Wait until one of the servers responds, as long as `may_respond()` is true and for `timeout_s` at most."""
    start = time.monotonic()
    servers = [_health_client(address) for address in addresses]
    while not any(map(_is_healthy, servers)) and may_respond() and time.monotonic() - start < timeout_s:
        time.sleep(POLL_INTERVAL_S)
    for server in servers:
        server.close()


def find_free_addresses(count: int) -> list[str]:
    """Return addresses with free ports that only this machine can reach."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"http://127.0.0.1:{listening.getsockname()[1]}" for listening in sockets]
    for listening in sockets:
        listening.close()
    return addresses


def _check_port_is_free(address: str) -> None:
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
    # Appended: a restarted server keeps its earlier output.
    with _log_file(log, "ab") as file:
        return subprocess.Popen(
            [*PYTHON, die_with_parent.__file__, str(os.getpid()), *PYTHON, *command.arguments],
            env=command.full_environment,
            stdin=subprocess.DEVNULL,
            stdout=file if log else None,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
        )


def _create_log(log: Path) -> Path:
    _log_file(log, "wb").close()
    return log


def _create_folder(logs: Path) -> None:
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"the folder {logs} for the logs of servers cannot be made: {error}.") from error


def _log_file(log: Path | None, mode: str) -> BinaryIO:
    try:
        return open(os.devnull, "ab") if log is None else open_bytes(log, mode)
    except OSError as error:
        raise EngineError(f"the log of a server, {log}, cannot be written: {error}. Choose another output_dir.") from error


def _health_client(address: str) -> Server:
    return Server(address, {}, timeout_s=5.0)


def _is_healthy(server: Server) -> bool:
    try:
        server.get("/health")
    except ServerError:
        return False
    return True


def _last_lines(log: Path | None) -> str:
    if log is None:
        return ""
    try:
        lines = read_bytes(log).decode(errors="replace").splitlines()[-NUM_LOG_LINES:]
    except OSError as error:
        return f" Its log, {log}, cannot be read: {error}."
    return "".join([f" The end of its log, {log}:", *(f"\n    {line}" for line in lines)])
