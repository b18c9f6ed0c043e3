"""How the process of a rank ends."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

START = """
    import atexit, os, sys, threading, time
    from plugrad.trainer.ranks.rank_exit import run_as_rank

    class Taken:
        def __del__(self):
            os.write(1, b"taken apart ")

    def work():
        time.sleep(0.2)
        print("the thread has ended", end=" ")

    def main():
        threading.Thread(target=work).start()
        atexit.register(print, "goodbye", end=" ")
        {end}

    kept = Taken()
"""
BY_PYTHON = "main()"
AS_A_RANK = "run_as_rank(main)"


def ended(end: str, last_line: str) -> subprocess.CompletedProcess[str]:
    code = dedent(START).format(end=end) + last_line
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_the_interpreter_is_not_taken_apart() -> None:
    # The threads of gloo that meet it there end the process with SIGABRT.
    assert ended("pass", BY_PYTHON).stdout == "the thread has ended goodbye taken apart "
    assert ended("pass", AS_A_RANK).stdout == "the thread has ended goodbye "


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit()",
        "sys.exit(0)",
        "sys.exit(130)",
        "sys.exit('no such thing')",
        "raise ValueError('it is of no use')",
    ],
)
def test_everything_else_is_as_python_does_it(end: str) -> None:
    by_python, as_a_rank = ended(end, BY_PYTHON), ended(end, AS_A_RANK)
    assert as_a_rank.stdout == "the thread has ended goodbye "
    assert as_a_rank.stderr.splitlines()[-1:] == by_python.stderr.splitlines()[-1:]
    assert as_a_rank.returncode == by_python.returncode


def test_a_reader_who_has_gone_is_no_error() -> None:
    code = dedent(START).format(end="sys.exit(3)") + AS_A_RANK
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 3
