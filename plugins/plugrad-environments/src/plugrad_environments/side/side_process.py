"""A Python process that answers one question after another; one that does not answer in time is replaced."""

from __future__ import annotations

import atexit
import json
import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from threading import Lock
from typing import Any

from plugrad import ContractError
from plugrad_environments.side.reading import NotInTime, read_some

START_S = 180.0
"""The limit until a process is ready: it may import sympy on a busy machine."""
LONGEST_ANSWER = 2**20
PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHASHSEED", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
"""What a process gets of the environment: not the keys that the trainer's may hold."""


class NoAnswer(Exception):
    """A question had no answer in time, or the process ended over it."""


class SideProcess:
    """A process of a module that calls `side_loop.serve`. It starts with the first question.

    Limits in this process would not do: signals reach neither other threads than the main one nor the inside of C code, and
    the code that judges a completion may run it.
    """

    def __init__(self, module: str, owner: str) -> None:
        """Describe a process.

        Args:
            module: what it runs.
            owner: whose it is, for messages.
        """
        self._module, self._owner = module, owner
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()
        self._unread = b""
        atexit.register(self._end)

    def ask(self, question: Any, timeout_s: float) -> Any:
        """Return the answer to a question.

        Raises:
            NoAnswer: there was none within `timeout_s`, or the process ended.
            ContractError: the process does not start.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            packed = pickle.dumps((timeout_s, question))
            try:
                self._write(len(packed).to_bytes(8, "big") + packed)
                line = self._line(timeout_s)
            except OSError:
                line = b""
            except BaseException:
                # Ctrl-C: what it answers later is no answer to the next question.
                self._end()
                raise
            if not line:
                self._end()
                raise NoAnswer
            return json.loads(line)

    def _start(self) -> None:
        self._end()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"OMP_NUM_THREADS": "1"},
            # -P: nothing is imported from the working directory. Ctrl-C is the trainer's.
            start_new_session=True,
        )
        if json.loads(self._line(START_S) or "null") != "ready":
            assert self._process.stderr is not None
            self._process.kill()
            said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            self._end()
            raise ContractError(
                f"the process of {self._owner} does not start: {said[-1] if said else f'no word within {START_S:g} s'}. "
                f"Try `python -P -m {self._module}`."
            )

    def _write(self, packed: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(packed)
        self._process.stdin.flush()

    def _line(self, timeout_s: float) -> bytes:
        """Return a line that the process wrote; nothing where it ended, took too long or writes without an end."""
        assert self._process is not None
        assert self._process.stdout is not None
        until, pipe = time.monotonic() + timeout_s, self._process.stdout.fileno()
        with suppress(NotInTime):
            while b"\n" not in self._unread and len(self._unread) <= LONGEST_ANSWER and (part := read_some(pipe, until)):
                self._unread += part
        line, end, self._unread = self._unread.partition(b"\n")
        return line if end else b""

    def _end(self) -> None:
        process, self._process, self._unread = self._process, None, b""
        if process is not None:
            process.kill()
            process.communicate()
