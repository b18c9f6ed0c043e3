"""The reward `code_tests`: the completion's Python code passes the tests of its example."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import DataError, Rollout
from plugrad_environments.rewards.code_process import written_by
from plugrad_environments.rewards.written_tests import ProgramTest, tests_of
from plugrad_environments.row_prompts import check_columns
from plugrad_environments.wording import cut

FENCE = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)```", flags=re.DOTALL)
LONGEST_CODE = 200_000


@dataclass(frozen=True, config={"extra": "forbid"})
class CodeTests:
    """The share of an example's tests that the code in the completion passes, or 1 for all of them and else 0.

    This is no sandbox. The code runs in a process of its own, with limits, as the user who trains: it can read and delete
    that user's files and use the network. Train in a container that holds nothing of value.

    The code is the last fenced block of the completion, or else all of it. A test is Python that raises if it fails, or what
    the code reads from standard input and has to print.

    Args:
        column: the column with the tests: text or a list of texts; or `{input, output}`, a list of them.
        partial: whether some passed tests are worth their share.
        timeout_s: the limit of seconds for the code and all its tests.
        memory_mb: the limit of a process's memory.
        output_kb: the limit of what a program prints. More is a failed test.
        processes: how many run at once. Default: one per core.
    """

    column: str = "tests"
    partial: bool = False
    timeout_s: float = Field(default=10.0, gt=0, le=3600)
    memory_mb: int = Field(default=1024, ge=64)
    output_kb: int = Field(default=1024, ge=1, le=2**20)
    processes: int | None = Field(default=None, ge=1)

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check that every example has tests, and that those in Python are Python."""
        for example in examples:
            check_columns("reward_kwargs.code_tests.column", [self.column], list(example), "the dataset")
            where = f"the tests of example {example.get('example_id')!r}"
            try:
                tests = tests_of(example[self.column])
            except ValueError as error:
                raise DataError(f"{where} are {cut(example[self.column])}. {error}.") from error
            for test in tests:
                if isinstance(test, ProgramTest):
                    continue
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
        if len(code) > LONGEST_CODE:
            return 0.0
        tests = tests_of(rollout["example"][self.column])
        programs = [test for test in tests if isinstance(test, ProgramTest)]
        passed = self._programs(code, programs) if programs else self._tests(code, [str(test) for test in tests])
        return passed / len(tests) if self.partial else float(passed == len(tests))

    def _tests(self, code: str, tests: Sequence[str]) -> int:
        word = secrets.token_hex(16)
        until = time.monotonic() + self.timeout_s
        said, _ = self._written(until, code=code, tests=tests, word=word) or (b"", 0)
        lines = said.splitlines()
        return sum(f"{word} {number}".encode() in lines for number in range(len(tests)))

    def _programs(self, code: str, tests: Sequence[ProgramTest]) -> int:
        """Run the program once for each test, until one fails where a share is worth nothing."""
        until, passed = time.monotonic() + self.timeout_s, 0
        for test in tests:
            written = self._written(until, code=code, input=test.text)
            is_passed = written is not None and written[1] == 0 and test.passes(written[0].decode(errors="replace"))
            if not is_passed and not self.partial:
                break
            passed += is_passed
        return passed

    def _written(self, until: float, **task: Any) -> tuple[bytes, int] | None:
        limits = {"memory_mb": self.memory_mb, "cpu_s": int(self.timeout_s) + 1}
        return written_by({**task, **limits}, until, self.output_kb * 1024)
