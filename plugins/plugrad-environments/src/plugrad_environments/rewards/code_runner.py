"""Runs the code of one completion in this process: started by `code_tests`, with limits."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from typing import Any


def main() -> None:
    """Read a task from standard input and run it."""
    task = json.loads(sys.stdin.buffer.read())
    _limit(resource.RLIMIT_AS, task["memory_mb"] * 2**20)
    _limit(resource.RLIMIT_CPU, task["cpu_s"])
    _limit(resource.RLIMIT_FSIZE, 16 * 2**20)
    _limit(resource.RLIMIT_CORE, 0)
    if "input" in task:
        run_program(task["code"], task["input"])
    else:
        run_tests(task["code"], task["tests"], task["word"])


def run_program(code: str, text: str) -> None:
    """Run the code as a program that reads `text` and writes to standard output."""
    with tempfile.TemporaryFile() as file:
        file.write(text.encode(errors="replace"))
        file.seek(0)
        os.dup2(file.fileno(), 0)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    exec(compile(code, "completion", "exec"), {"__name__": "__main__"})


def run_tests(code: str, tests: list[str], word: str) -> None:
    """Run the code, then each test; write the secret word and a test's number for each that passes."""
    # What the code prints goes nowhere. Standard error leads nowhere already.
    answer = os.dup(1)
    os.dup2(2, 0)
    os.dup2(2, 1)
    names: dict[str, Any] = {"__name__": "completion"}
    exec(compile(code, "completion", "exec"), names)
    for number, test in enumerate(tests):
        try:
            exec(compile(test, "test", "exec"), names)
        except BaseException:
            continue
        os.write(answer, f"{word} {number}\n".encode())


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (most, most))


if __name__ == "__main__":
    main()
