"""Runs the code of one completion and its tests in this process: started by `code_tests`, with limits."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any


def main() -> None:
    """Read a task from standard input; write the secret word and a test's number for each test that passes."""
    task = json.loads(sys.stdin.buffer.read())
    # What the code prints goes nowhere; it cannot fill the pipe.
    answer = os.dup(1)
    # Standard error leads nowhere already.
    os.dup2(2, 0)
    os.dup2(2, 1)
    _limit(resource.RLIMIT_AS, task["memory_mb"] * 2**20)
    _limit(resource.RLIMIT_CPU, task["cpu_s"])
    _limit(resource.RLIMIT_FSIZE, 16 * 2**20)
    _limit(resource.RLIMIT_CORE, 0)
    names: dict[str, Any] = {"__name__": "completion"}
    exec(compile(task["code"], "completion", "exec"), names)
    for number, test in enumerate(task["tests"]):
        try:
            exec(compile(test, "test", "exec"), names)
        except BaseException:
            continue
        os.write(answer, f"{task['word']} {number}\n".encode())


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (most, most))


if __name__ == "__main__":
    main()
