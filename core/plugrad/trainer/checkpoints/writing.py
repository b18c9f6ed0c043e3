"""When checkpoints are due, and how they get to disk while the run goes on."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException

from plugrad.config.tables.checkpoint_table import CheckpointTable
from plugrad.errors import TrainingError
from plugrad.host.environment import BoundEnvironment
from plugrad.paths import write_bytes
from plugrad.shown import printable
from plugrad.trainer.batch.background_thread import Worker
from plugrad.trainer.checkpoints.best import BestSoFar
from plugrad.trainer.checkpoints.checkpoint_folder import begin, folder_of, prune, publish, sums_of, sync, unfinished_of
from plugrad.trainer.checkpoints.origin import origin_of
from plugrad.trainer.checkpoints.snapshot import (
    Contents,
    Copying,
    Place,
    Snapshot,
    as_bytes,
    own_bytes,
    snapshot,
)
from plugrad.trainer.checkpoints.training_tensors import save_tensors
from plugrad.trainer.ranks.ranks import PATIENCE, Ranks
from plugrad.trainer.record.run_folder import METRICS, PLUGINS, RUN_FILE, SAMPLES

SHARED = "shared.pt"
T = TypeVar("T")

logger = logging.getLogger("plugrad")


def own_file(rank: int) -> str:
    """Return the name of the file with what a rank has of its own."""
    return f"rank_{rank:05d}.pt"


@dataclass
class Due:
    """Whether a checkpoint is due after a step."""

    table: CheckpointTable
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._last = self.clock()
        self._any = False

    def after(self, step: int, ranks: Ranks) -> bool:
        """Return whether one is due after `step` steps, the same on every rank."""
        table = self.table
        if any(every and step % every == 0 for every in (table.every_steps, table.keep_every_steps)):
            return True
        if not table.every_minutes:
            return False
        # The clock of the main rank decides.
        return ranks.gather(self.clock() - self._last >= 60 * table.every_minutes)[0]

    @property
    def at_the_end(self) -> bool:
        """Whether a run that is complete writes one: not a short run that wrote none before."""
        return self._any or bool(self.table.every_steps or self.table.keep_every_steps)

    def written(self) -> None:
        """Note that one is being written."""
        self._last, self._any = self.clock(), True


class Checkpoints:
    """Writes the checkpoints of a run. A step waits for the copies; a thread writes them while the next step runs."""

    def __init__(
        self, folder: Path, table: CheckpointTable, contents: Contents, environment: BoundEnvironment, first_step: int = 0
    ) -> None:
        learner = contents.learner
        self._folder, self._table, self._contents, self._environment = folder, table, contents, environment
        self._due = Due(table)
        self._ranks = learner.ranks
        self._best = BestSoFar.of(folder, table.keep_best, first_step, learner.ranks)
        # The thread exchanges with those of the other ranks while this thread exchanges something else.
        group = dist.new_group(backend="gloo", timeout=PATIENCE) if self._ranks.count > 1 else None
        self._writers = Ranks(self._ranks.index, self._ranks.count, group)
        self._copying = Copying(learner.accelerator.device)
        self._worker: Worker | None = None
        self._written: Future[None] | None = None
        self._origin: dict[str, str] | None = None
        self.latest: int | None = None
        """The step of the newest checkpoint that this run wrote."""

    def after_step(
        self, place: Place, record: Mapping[str, float] | None = None, *, is_last: bool = False, is_asked: bool = False
    ) -> None:
        """Write a checkpoint if one is due, asked for, or the best so far. Every rank calls it after every step.

        Raises:
            RunFileError: `keep_best` is no number of the step's record.
        """
        is_best = self._best.is_beaten_by(record or {})
        if is_best or is_asked or self._due.after(place.step, self._ranks) or (is_last and self._due.at_the_end):
            self.write(place, self._best.of_record(record or {}))
        if is_last or is_asked:
            self.wait()

    def check_best(self, evaluated: Mapping[str, float]) -> None:
        """Check that an evaluation has the number by which the best checkpoint is chosen, if it is one of an evaluation.

        Raises:
            RunFileError: it has not.
        """
        self._best.check_evaluated(evaluated)

    def write(self, place: Place, best: Mapping[str, float] | None = None) -> None:
        """Copy everything, and write it in the background. Wait first if the last checkpoint is still being written."""
        started = time.perf_counter()
        self.wait()
        self._due.written()
        copies = snapshot(self._contents, place, self._copying)
        blocked_s = time.perf_counter() - started
        if self._worker is None:
            self._worker = Worker("plugrad-checkpoints", lambda: None)
        self._written = self._worker.do(partial(self._write, copies, blocked_s, best or {}))

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk, or has failed."""
        if self._written is not None:
            self._written.result()
            self._written = None

    def close(self, *, waits: bool = True) -> None:
        """End the thread."""
        if self._worker is not None:
            self._worker.close(waits=waits)
        if waits:
            self._copying.close()

    def _write(self, copies: Snapshot, blocked_s: float, best: Mapping[str, float]) -> None:
        """Write a checkpoint. What goes wrong costs the checkpoint, not the run."""
        folder = folder_of(self._folder, copies.place.step)
        try:
            self._write_files(copies, folder, blocked_s, best)
            self.latest = copies.place.step
        # The distributed checkpoint raises a BaseException.
        except BaseException as error:
            if self._writers.is_main:
                shutil.rmtree(unfinished_of(folder), ignore_errors=True)
                logger.warning(
                    "The checkpoint after step %d is not written: %s. The run goes on; make room, or put output_dir on "
                    "another disk.",
                    copies.place.step,
                    printable(_cause(error)),
                )

    def _write_files(self, copies: Snapshot, folder: Path, blocked_s: float, best: Mapping[str, float]) -> None:
        started, rank = time.perf_counter(), self._writers.index
        unfinished = unfinished_of(folder)
        self._on_main(lambda: begin(unfinished))
        self._together(lambda: write_bytes(unfinished / own_file(rank), own_bytes(copies.own)))
        for name, tensors in copies.tensors.items():
            if tensors:
                save_tensors(tensors, unfinished / name, self._writers.group)
        self._on_main(lambda: self._write_shared(copies, unfinished))
        sums = self._writers.gather(self._together(lambda: self._sums_of_own(unfinished)))
        if self._writers.is_main:
            # Once, and here: reading all weights takes a while.
            self._origin = self._origin or origin_of(self._contents.learner, self._environment)
            facts = {
                "step": copies.place.step,
                "num_ranks": self._writers.count,
                "origin": self._origin,
                "best": best,
                "seconds_blocked": round(blocked_s, 4),
                "seconds_to_write": round(time.perf_counter() - started, 4),
                "sums": {name: total for share in sums for name, total in share.items()},
            }
            # A run that goes on keeps the records of the steps before: they are on disk before the checkpoint counts.
            for name in (METRICS, SAMPLES):
                with suppress(OSError):
                    sync(self._folder / name)
            publish(unfinished, folder, facts)
            prune(self._folder, self._table.keep, self._table.keep_every_steps, self._table.keep_best)

    def _write_shared(self, copies: Snapshot, unfinished: Path) -> None:
        write_bytes(unfinished / SHARED, as_bytes(copies.shared))
        for name in (RUN_FILE, PLUGINS):
            shutil.copyfile(self._folder / name, unfinished / name)

    def _sums_of_own(self, unfinished: Path) -> dict[str, str]:
        """Return the sums of what this rank has written."""
        rank = self._writers.index
        files = [unfinished / own_file(rank), *unfinished.glob(f"*/shard-{rank + 1:05d}-*")]
        files += [unfinished / name for name in (SHARED, RUN_FILE, PLUGINS)] if rank == 0 else []
        for file in files:
            sync(file)
        return sums_of(unfinished, files)

    def _on_main(self, attempt: Callable[[], object]) -> None:
        self._writers.on_main(lambda: _told(attempt))

    def _together(self, attempt: Callable[[], T]) -> T:
        return self._writers.together(lambda: _told(attempt))


def _told(attempt: Callable[[], T]) -> T:
    """Call `attempt`; whatever it raises is an error that the other ranks are told."""
    try:
        return attempt()
    except Exception as error:
        raise TrainingError(f"{type(error).__name__}: {error}") from error


def _cause(error: BaseException) -> BaseException:
    """Return what went wrong on the first rank where something did, without the tracebacks of PyTorch's own message."""
    if isinstance(error, CheckpointException):
        return next((found for found, _ in error.failures.values()), error)
    return error
