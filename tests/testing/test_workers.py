"""The processes of checks: what a worker prints and how it ends, forked by a nursery or started anew."""

import os
import textwrap
from pathlib import Path

import pytest

from plugrad.testing import workers
from plugrad.testing.checks import Outcome, run_checks
from plugrad.testing.losses import loss_checks

MODULE = """
import ctypes, os, sys, threading

def main(arguments):
    how, *rest = arguments
    if how == "prints":
        print(rest, os.environ["MINE"], os.getcwd())
    if how == "raises":
        raise ValueError("oh no")
    if how == "leaves":
        os._exit(0)
    if how == "crashes":
        ctypes.string_at(1)
    if how == "hangs":
        threading.Event().wait()

if __name__ == "__main__":
    main(sys.argv[1:])
"""


@pytest.fixture(params=["forked", "started"])
def worker(request, tmp_path, monkeypatch):
    if request.param == "started":
        monkeypatch.setattr(workers, "can_fork", lambda: False)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "of_a_worker.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    return lambda *arguments: workers.worker("of_a_worker", *arguments, MINE="mine")


def test_it_has_the_arguments_the_environment_and_the_folder(worker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with worker("prints", "a", "b") as process:
        assert process.wait(60) == 0
        assert process.output == f"['a', 'b'] mine {tmp_path}\n"


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("raises", 1, "ValueError: oh no"),
        ("leaves", 0, "it ended the process with exit code 0"),
        ("crashes", -11, "it ended the process with SIGSEGV"),
    ],
)
def test_how_it_ended_is_told(worker, how, code, said):
    with worker(how) as process:
        assert process.wait(60) == code
        assert process.last_words(code) == said


def test_one_that_hangs_is_killed(worker):
    with worker("hangs") as process:
        assert process.wait(0.1) is None
    assert process.wait(60) == -9


LEAVES = """
import os

from plugrad import LossInputs, LossOutputs

if {where}:
    os._exit(0)


def mine(inputs: LossInputs) -> LossOutputs:
    return LossOutputs((-inputs.advantages * inputs.trainer_logprobs * inputs.loss_mask).sum())
"""


@pytest.mark.parametrize(
    ("where", "check", "said"),
    [
        (
            "os.environ.get('RANK') == '1'",
            "one_rank_equals_two",
            "rank 1 of two failed: it ended the process with exit code 0",
        ),
        (
            "os.getpid() != {pid}",
            "import_effects",
            "cannot be imported in a new process: it ended the process with exit code 0",
        ),
    ],
)
def test_a_component_that_ends_the_process_of_a_check_has_failed_it(tmp_path, where, check, said):
    path = tmp_path / "leaves.py"
    path.write_text(textwrap.dedent(LEAVES.format(where=where.format(pid=os.getpid()))))
    [result] = run_checks([each for each in loss_checks(f"{path}:mine") if each.name == check])
    assert result.outcome is Outcome.FAILED
    assert said in result.seen


def test_the_authors_columns_are_there_in_the_processes_too():
    reads = f"{Path(__file__).parent / 'broken_losses.py'}:reads_a_column"
    checks = loss_checks(reads, example={"difficulty": 2.0})
    [result] = run_checks([each for each in checks if each.name == "one_rank_equals_two"])
    assert result.outcome is Outcome.KEPT, result.seen
