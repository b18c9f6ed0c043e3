"""The promise about several processes: two ranks take the same step as one."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.rank_task import BY_FORMULA, TASK, Task, Update
from plugrad.testing.numbers import TOLERANCE, is_close
from plugrad.testing.portable import importable_reference
from plugrad.testing.trial_examples import columns_of_the_author
from plugrad.testing.workers import Worker, prepare_workers, worker

EDGES = [0, 2, 3]
"""Boundaries of the ranks' shares of three groups: the first rank has two."""
NUM_RANKS = len(EDGES) - 1
LIMIT_S, WAIT_S = 120.0, 0.05
PROCESS = "plugrad.testing.losses.rank_process"
IMPORTS = (PROCESS, "plugrad.trainer.update.run_updates", "plugrad.trainer.update.learner", "transformers.models.qwen3")
"""What a process of this check imports, which takes seconds."""


def _check_one_rank_equals_two(loss: LossTrial) -> str:
    if loss.facts.cut_dependent:
        raise NotApplicable("it declares cut_dependent")
    updates = _updates(Task(importable_reference(loss.component), loss.component.forms, EDGES, columns_of_the_author()))
    expected = updates.pop(BY_FORMULA)
    for rank, found in updates.items():
        if not is_close(found.loss, expected.loss):
            raise Broken(f"the objective is {expected.loss:.6g} by the formula, but {found.loss:.6g} on rank {rank} of two")
        difference = float((found.gradient - expected.gradient).abs().max())
        scale = float(expected.gradient.abs().max())
        if not difference <= TOLERANCE * max(1.0, scale):
            raise Broken(
                f"the objective agrees with the formula, but the gradient, up to {scale:.6g}, is {difference:.3g} off "
                f"on rank {rank} of two"
            )
    return f"a model's gradient, largest difference {difference:.0e}"


def _updates(task: Task) -> dict[str, Update]:
    """Return the update that one process computes by the formula, and the one that two ranks take."""
    with TemporaryDirectory(prefix="plugrad-ranks-") as name, ExitStack() as processes:
        folder = Path(name)
        (folder / TASK).write_bytes(pickle.dumps(task))
        # This process serves the store, so the port is certainly free.
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=LIMIT_S))
        variables = {str(rank): _variables(rank, store.port) for rank in range(NUM_RANKS)} | {BY_FORMULA: {}}
        workers = {
            which: processes.enter_context(
                worker(PROCESS, str(folder), which, imports=IMPORTS, OMP_NUM_THREADS="1", **of_process)
            )
            for which, of_process in variables.items()
        }
        _wait(workers, folder)
        return {which: pickle.loads(_file(folder, which).read_bytes()) for which in sorted(workers)}


def _wait(workers: Mapping[str, Worker], folder: Path) -> None:
    """Wait until every process has written its update, or one has ended without: others may wait for it for ever."""
    deadline, running = time.monotonic() + LIMIT_S, list(workers)
    while running:
        for which in list(running):
            exit_code = workers[which].wait(WAIT_S)
            if exit_code is None:
                continue
            running.remove(which)
            if exit_code or not _file(folder, which).exists():
                who = "the update by the formula" if which == BY_FORMULA else f"rank {which} of two"
                raise Broken(f"{who} failed: {workers[which].last_words(exit_code)}")
        if time.monotonic() > deadline:
            raise Broken(f"two ranks did not finish within {LIMIT_S:g} s: one may be waiting for the other")


def _file(folder: Path, which: str) -> Path:
    return folder / f"{which}.pickle"


def _variables(rank: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(NUM_RANKS),
        "LOCAL_WORLD_SIZE": str(NUM_RANKS),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        # On the CPU, whatever devices exist: two ranks on one device would block each other.
        "ACCELERATE_USE_CPU": "True",
    }


def _prepare() -> None:
    prepare_workers(IMPORTS)


RANKS: tuple[Promise[LossTrial], ...] = (
    Promise(
        "one_rank_equals_two",
        "two processes take the same step as one",
        "The number of GPUs affects speed only. It must not change what is learned.",
        "Leave ranks to plugrad: no torch.distributed, no division by the number of processes or sequences, no state.",
        _check_one_rank_equals_two,
        after=("masked_slots", "padding", "permutation", "micro_batches", "state", "inputs_unchanged", "metrics"),
        prepare=_prepare,
    ),
)
