"""An agent that is a program: a process for each rollout, which reads the example and writes the reward."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from plugrad.contracts.environment import finite_number
from plugrad.errors import ContractError, OptionError
from plugrad.json_text import parse_json, plain
from plugrad.processes import PYTHON, environment, how_it_ended
from plugrad.shown import printable, shown

MOST_BYTES = 64 * 2**10
"""Of what a program has written last, that is kept."""
NUM_LINES, MOST_CHARACTERS = 8, 1000
"""Of the end of stderr, that a message shows."""
TO_READ_S = 2.0
"""After a program has ended: a process that it left behind may hold the other end for ever."""
HOST = "127.0.0.1"


@dataclass(frozen=True)
class AgentCommand:
    """A program with its arguments."""

    words: Sequence[str]
    folder: Path
    """Where it runs."""

    @classmethod
    def of(cls, words: Sequence[str], folder: Path) -> AgentCommand:
        """Check that there is such a program.

        Raises:
            OptionError: there is not.
        """
        if not words or not words[0]:
            raise OptionError("the environment 'agent': command is empty. Write the program and its arguments.")
        has_folder = os.path.dirname(words[0]) != ""
        if shutil.which(str(folder / words[0]) if has_folder else words[0], path=_search_path()) is None:
            where = f"in {folder}" if has_folder else "on PATH"
            raise OptionError(
                f"the environment 'agent': command = {shown(list(words))}, and {where} there is no program "
                f"{shown(words[0])} that can be run. Correct its name, or make the file executable."
            )
        return cls(tuple(words), folder)

    async def reward(self, example: Mapping[str, Any], base_url: str) -> Any:
        """Run it for one rollout, and return the reward that it writes. Whatever ends this ends all that it has started.

        Raises:
            ContractError: it cannot be started, fails, or writes no reward.
        """
        process = self._started(example, base_url)
        assert process.stdout is not None
        assert process.stderr is not None
        written, errors = _Tail(process.stdout), _Tail(process.stderr)
        readers = [asyncio.create_task(asyncio.to_thread(tail.read)) for tail in (written, errors)]
        try:
            status = await asyncio.to_thread(process.wait)
        finally:
            _end(process)
        await asyncio.wait(readers, timeout=TO_READ_S)
        if status:
            raise ContractError(f"{self} ended with {how_it_ended(status)}.{_end_of(errors)}")
        return self._reward_in(written, errors)

    def __str__(self) -> str:
        return f"the agent's command {shown(' '.join(self.words))}"

    def _started(self, example: Mapping[str, Any], base_url: str) -> subprocess.Popen[bytes]:
        # Without a proxy, which would look for the address on its own machine.
        direct = ",".join(filter(None, [HOST, os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))]))
        variables = {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "unused", "NO_PROXY": direct, "no_proxy": direct}
        try:
            # A file has no other end that could wait.
            with tempfile.TemporaryFile() as given:
                given.write(json.dumps(plain(example)).encode() + b"\n")
                given.seek(0)
                return subprocess.Popen(
                    self.words,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self.folder,
                    env=environment(PATH=_search_path(), **variables),
                    # So that all its processes can be killed together.
                    start_new_session=True,
                )
        except (OSError, ValueError, TypeError) as error:
            raise ContractError(f"{self} cannot be started: {printable(error)}.") from error

    def _reward_in(self, written: _Tail, errors: _Tail) -> Any:
        lines = written.lines
        last = lines[-1] if lines else ""
        with suppress(ValueError):
            found = parse_json(last)
            numbers = list(found.values()) if isinstance(found, dict) else [found]
            if numbers and all(finite_number(number) is not None for number in numbers):
                return found
        what = f"{shown(last)}, which is no reward" if lines else "not there: it wrote nothing"
        raise ContractError(
            f"the last line that {self} wrote to stdout is {what}. It must be the reward: a finite number, or a JSON object "
            f"of such.{_end_of(errors)}"
        )


@dataclass
class _Tail:
    """The end of what a process writes."""

    stream: IO[bytes]
    kept: bytes = field(default=b"")

    def read(self) -> None:
        """Read until nobody can write any more."""
        with self.stream, suppress(OSError, ValueError):
            while part := os.read(self.stream.fileno(), MOST_BYTES):
                self.kept = (self.kept + part)[-MOST_BYTES:]

    @property
    def lines(self) -> list[str]:
        """The last lines that are not empty."""
        return [line.strip() for line in self.kept.decode("utf-8", "replace").splitlines() if line.strip()]


def _search_path() -> str:
    """Return PATH with this Python's folder first: `python` is then the one that has the run's packages."""
    return os.pathsep.join([os.path.dirname(PYTHON[0]), os.environ.get("PATH", os.defpath)])


def _end_of(errors: _Tail) -> str:
    lines = errors.lines[-NUM_LINES:]
    if not lines:
        return " It wrote nothing to stderr."
    return "\n  The end of its stderr:\n" + "\n".join(f"    {printable(line, MOST_CHARACTERS)}" for line in lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it and what it has started. The thread that waits for it takes its status."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
