"""The promise about several processes: two ranks take the same step as one."""

from __future__ import annotations

import json
import pickle
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from plugrad.processes import PYTHON, environment_with_own_path
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.losses.cuts import skip_if_cut_dependent
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.numbers import TOLERANCE, is_close
from plugrad.testing.portable import importable_reference, last_line

if TYPE_CHECKING:
    from plugrad.testing.losses.update import Update

EDGES = [0, 2, 3]
"""Boundaries of the ranks' shares of three groups: the first rank has two."""
LIMIT_S = 120.0


def _check_one_rank_equals_two(loss: LossTrial) -> str:
    skip_if_cut_dependent(loss)
    with _two_ranks(loss) as collect:
        # Imported here: Transformers takes seconds to import, and the ranks import it meanwhile.
        from plugrad.testing.losses.update import update_by_hand

        expected = update_by_hand(loss)
        updates = collect()
    for rank, found in enumerate(updates):
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


@contextmanager
def _two_ranks(loss: LossTrial) -> Iterator[Callable[[], list[Update]]]:
    """Start two ranks that take the same step. Yield a function that waits for them and returns their updates."""
    reference = importable_reference(loss.component)
    with TemporaryDirectory(prefix="plugrad-ranks-") as folder:
        task = {"reference": reference, "options": dict(loss.component.forms), "edges": EDGES, "out": folder}
        # This process serves the store, so the port is certainly free.
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=LIMIT_S))
        ranks = [_start(rank, store.port, json.dumps(task)) for rank in range(len(EDGES) - 1)]
        try:
            yield lambda: _collect_updates(ranks, Path(folder))
        finally:
            for process in ranks:
                process.kill()
                process.wait()


def _collect_updates(ranks: Sequence[subprocess.Popen[str]], folder: Path) -> list[Update]:
    try:
        errors = [process.communicate(timeout=LIMIT_S)[1] for process in ranks]
    except subprocess.TimeoutExpired as error:
        raise Broken(f"two ranks did not finish within {LIMIT_S:g} s: one may be waiting for the other") from error
    for rank, process in enumerate(ranks):
        if process.returncode:
            raise Broken(f"rank {rank} of two failed: {last_line(errors[rank])}")
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(len(ranks))]


def _start(rank: int, port: int, task: str) -> subprocess.Popen[str]:
    environment = {
        **environment_with_own_path(OMP_NUM_THREADS="1"),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(len(EDGES) - 1),
        "LOCAL_WORLD_SIZE": str(len(EDGES) - 1),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        # On the CPU, whatever devices exist: two ranks on one device would block each other.
        "ACCELERATE_USE_CPU": "True",
    }
    command = [*PYTHON, "-m", "plugrad.testing.losses.rank_process", task]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


RANKS: tuple[Promise[LossTrial], ...] = (
    Promise(
        "one_rank_equals_two",
        "two processes take the same step as one",
        "The number of GPUs affects speed only. It must not change what is learned.",
        "Leave ranks to plugrad: no torch.distributed, no division by the number of processes or sequences, no state.",
        _check_one_rank_equals_two,
        after=("masked_slots", "padding", "permutation", "micro_batches", "deterministic", "state", "inputs_unchanged"),
    ),
)
