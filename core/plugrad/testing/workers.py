"""Processes that checks start, each to call the main function of a module: forked by a nursery, or started anew."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from plugrad.processes import PYTHON, environment_with_own_path, how_it_ended, without_working_directory
from plugrad.quick_imports import without_collections
from plugrad.testing.nursery import ERRORS, OUTPUT, REQUEST, can_fork, connection, serve

FIRST_MODULES = ("plugrad.testing.kinds", "plugrad.testing.effects")
"""What every nursery has imported: torch and the kit, and no component."""
_nurseries: dict[tuple[str, ...], socket.socket] = {}
"""The connections to nurseries, by the modules that they have imported beside the first ones."""


class Process(Protocol):
    """A process, as a worker sees it."""

    def wait(self, timeout_s: float) -> int | None:
        """Wait until it has ended. Return the exit code, negative for a signal; None if it still runs."""

    def kill(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Worker:
    """A process that calls a module's main function."""

    process: Process
    folder: Path

    def wait(self, timeout_s: float) -> int | None:
        """Wait until it has ended. Return the exit code, negative for a signal; None if it still runs after that time."""
        return self.process.wait(timeout_s)

    @property
    def output(self) -> str:
        """What it has printed."""
        return (self.folder / OUTPUT).read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self) -> str:
        """What it has printed as errors."""
        return (self.folder / ERRORS).read_text(encoding="utf-8", errors="replace")

    def last_words(self, exit_code: int) -> str:
        """Return why it ended: the last line of its errors, which in a traceback is the error, or how it ended."""
        return next(reversed(self.errors.strip().splitlines()), f"it ended the process with {how_it_ended(exit_code)}")


def fork_nursery() -> None:
    """Fork this process as the one from which workers come. No thread has started here, and no component is imported."""
    if not can_fork():
        return
    with without_collections():
        for module in FIRST_MODULES:
            import_module(module)
    ours, theirs = connection()
    if os.fork() == 0:
        ours.close()
        serve(theirs)
    theirs.close()
    _nurseries[()] = ours


def prepare_workers(modules: Sequence[str]) -> None:
    """Let a nursery import these modules, which takes seconds, while this process does something else."""
    if can_fork():
        _nursery(tuple(modules))


@contextmanager
def worker(module: str, *arguments: str, imports: Sequence[str] = (), **variables: str) -> Iterator[Worker]:
    """Call `module.main(arguments)` in a process of its own, and kill that at the end.

    Args:
        module: what `python -m` would run.
        arguments: of its main function, as one list.
        imports: what the process may have imported before.
        variables: of its environment, beside this process's own.
    """
    environment = environment_with_own_path(**variables)
    with TemporaryDirectory(prefix="plugrad-worker-") as name:
        folder = Path(name)
        (folder / OUTPUT).touch()
        (folder / ERRORS).touch()
        forked = _forked(folder, module, arguments, environment, tuple(imports)) if can_fork() else None
        process: Process = forked or _Started(folder, [module, *arguments], environment)
        try:
            yield Worker(process, folder)
        finally:
            process.kill()


class _Started:
    """A process that the system has started anew."""

    def __init__(self, folder: Path, arguments: Sequence[str], environment: dict[str, str]) -> None:
        with (folder / OUTPUT).open("wb") as output, (folder / ERRORS).open("wb") as errors:
            self._process = subprocess.Popen(
                [*PYTHON, "-m", *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            )

    def wait(self, timeout_s: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class _Forked:
    """A process that a nursery has forked, as its supervisor tells of it: its number, and how it ended."""

    def __init__(self, news: int) -> None:
        self._news = news
        self._poll = select.poll()
        self._poll.register(news)
        self._told = b""
        self._ended = False

    def wait(self, timeout_s: float) -> int | None:
        deadline = time.monotonic() + timeout_s
        while not self._ended:
            if not self._poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                return None
            part = os.read(self._news, 100)
            self._told += part
            self._ended = not part
        lines = self._told.split()
        # If the supervisor was killed, so was everything.
        return int(lines[1]) if len(lines) > 1 else -signal.SIGKILL

    def kill(self) -> None:
        while self.wait(0) is None:
            for number in self._told.split()[:1]:
                with suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)
            self.wait(0.1)
        os.close(self._news)


def _forked(
    folder: Path, module: str, arguments: Sequence[str], environment: dict[str, str], imports: tuple[str, ...]
) -> _Forked | None:
    """Ask the nursery for a worker; None if it does not answer."""
    news, of_supervisor = os.pipe()
    try:
        asked = {
            "module": module,
            "arguments": arguments,
            "environment": environment,
            "path": without_working_directory(sys.path).split(os.pathsep),
            "folder": os.getcwd(),
        }
        (folder / REQUEST).write_text(json.dumps(asked), encoding="utf-8")
        socket.send_fds(_nursery(imports), [json.dumps(str(folder)).encode()], [of_supervisor])
    except OSError:
        os.close(news)
        return None
    finally:
        os.close(of_supervisor)
    return _Forked(news)


def _nursery(modules: tuple[str, ...]) -> socket.socket:
    """Return the connection to a nursery that has imported these modules."""
    if modules not in _nurseries:
        if modules:
            first = _nursery(())
            ours, theirs = connection()
            with theirs:
                socket.send_fds(first, [json.dumps(modules).encode()], [theirs.fileno()])
            _nurseries[modules] = ours
        else:
            _nurseries[()] = _start_nursery()
    return _nurseries[modules]


def _start_nursery() -> socket.socket:
    ours, theirs = connection()
    with theirs:
        process = subprocess.Popen(
            [*PYTHON, "-m", "plugrad.testing.nursery", str(theirs.fileno()), *FIRST_MODULES],
            env=environment_with_own_path(OMP_NUM_THREADS="1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            # Ctrl-C in the terminal goes to this process alone, which then closes the connection.
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours
