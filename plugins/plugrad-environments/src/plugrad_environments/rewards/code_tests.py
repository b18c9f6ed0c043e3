"""The reward `code_tests`: the completion's Python code passes the tests of its example."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import DataError, Rollout
from plugrad_environments.row_prompts import check_columns
from plugrad_environments.wording import cut

FENCE = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)```", flags=re.DOTALL)
RUNNER = Path(__file__).with_name("code_runner.py")
LONGEST_CODE = 200_000


@dataclass(frozen=True, config={"extra": "forbid"})
class CodeTests:
    """The share of an example's tests that the code in the completion passes, or 1 for all of them and else 0.

    This is no sandbox. The code runs in a process of its own, with limits, as the user who trains: it can read and delete
    that user's files and use the network. Train in a container that holds nothing of value.

    The code is the last fenced block of the completion, or else all of it. A test is Python that raises if it fails.

    Args:
        column: the column with the tests: text, or a list of texts.
        partial: whether some passed tests are worth their share.
        timeout_s: the limit of seconds for the code and all its tests.
        memory_mb: the limit of the process's memory.
        processes: how many run at once. Default: one per core.
    """

    column: str = "tests"
    partial: bool = False
    timeout_s: float = Field(default=10.0, gt=0, le=3600)
    memory_mb: int = Field(default=1024, ge=64)
    processes: int | None = Field(default=None, ge=1)

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check that every example has tests, which are Python."""
        for example in examples:
            check_columns("reward_kwargs.code_tests.column", [self.column], list(example), "the dataset")
            where = f"the tests of example {example.get('example_id')!r}"
            tests = _tests(example[self.column])
            if not tests:
                raise DataError(f"{where} are {cut(example[self.column])}. Tests are Python code: text, or a list of texts.")
            for test in tests:
                try:
                    compile(test, "test", "exec")
                except (SyntaxError, ValueError) as error:
                    raise DataError(f"{where} are no Python code: {error} ({cut(test)}).") from error

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Run the code of every rollout, several at once."""
        with ThreadPoolExecutor(self.processes or os.cpu_count() or 1) as pool:
            return list(pool.map(self._score, rollouts))

    def _score(self, rollout: Rollout) -> float:
        fenced = FENCE.findall(rollout["completion"])
        code = fenced[-1] if fenced else rollout["completion"]
        tests = _tests(rollout["example"][self.column])
        passed = self._passed(code, tests)
        return passed / len(tests) if self.partial else float(passed == len(tests))

    def _passed(self, code: str, tests: Sequence[str]) -> int:
        if len(code) > LONGEST_CODE:
            return 0
        word = secrets.token_hex(16)
        task = {"code": code, "tests": tests, "word": word, "memory_mb": self.memory_mb, "cpu_s": int(self.timeout_s) + 1}
        with tempfile.TemporaryDirectory(prefix="plugrad_code_", ignore_cleanup_errors=True) as folder:
            said = self._said(json.dumps(task).encode(), folder)
        return sum(f"{word} {number}".encode() in said for number in range(len(tests)))

    def _said(self, task: bytes, folder: str) -> list[bytes]:
        """Return the lines that the runner wrote: one for each test that passed."""
        process = subprocess.Popen(
            [sys.executable, "-I", str(RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            # Not the keys that the trainer's environment may hold.
            env={"PATH": os.defpath, "HOME": folder, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(task, timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            said = b""
        finally:
            # Also those that the code started, and left running.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        return said.splitlines()


def _tests(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    return list(value) if isinstance(value, list) and all(isinstance(test, str) for test in value) else []
