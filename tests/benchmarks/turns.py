"""Processes that take turns: each does one step while the others wait, so that a busy moment slows every one alike."""

import ctypes
import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

Figures = dict[str, float]
MIB = 1024.0


class Turns:
    """Held by a process that works in steps: it reports each and waits until it is its turn again."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._begin()

    def step_done(self, figures: Mapping[str, float]) -> None:
        """Report the step that just ended with its seconds, its processor time and its memory, and wait."""
        seconds = {"seconds": perf_counter() - self._started, "cpu_seconds": process_time() - self._worked}
        memory = {"peak_mib": _resident("VmHWM") - self._resident}
        self._pipe.send({**figures, **seconds, **memory})
        self._pipe.recv()
        self._begin()

    def _begin(self) -> None:
        self._resident = _forget_peak()
        self._started, self._worked = perf_counter(), process_time()


Work = Callable[[Turns], None]


def in_turn(
    workers: Mapping[str, Work], *, rounds: int, warm_up: int, imports: Mapping[str, Path]
) -> dict[str, list[Figures]]:
    """Start a fresh process for each worker, and return the figures of its steps but the first `warm_up`.

    A worker does exactly `warm_up + rounds` steps. One that is named in `imports` looks there first for its packages.
    """
    with _started(workers, imports) as pipes:
        steps = [{name: _step(pipe) for name, pipe in pipes.items()} for _ in range(warm_up + rounds)]
        for pipe in pipes.values():
            pipe.send("go")
    return {name: [step[name] for step in steps[warm_up:]] for name in workers}


@contextmanager
def _started(workers: Mapping[str, Work], imports: Mapping[str, Path]) -> Iterator[dict[str, Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes: list[BaseProcess] = []
    for name, work in workers.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_run, args=(work, theirs), name=name, daemon=True))
        with _importing_from(imports.get(name)):
            processes[-1].start()
        # Only the worker may hold its end: if it dies, reading from ours fails instead of waiting for ever.
        theirs.close()
    yield pipes
    for process in processes:
        process.join()


@contextmanager
def _importing_from(folder: Path | None) -> Iterator[None]:
    """Until the block ends, put a folder first where processes that start look for packages."""
    if folder is None:
        yield
        return
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def _run(work: Work, pipe: Connection) -> None:
    pipe.recv()
    work(Turns(pipe))


def _step(pipe: Connection) -> Figures:
    pipe.send("go")
    figures: Figures = pipe.recv()
    return figures


def _forget_peak() -> float:
    """Give freed memory back to the system, start a new peak, and return how much is resident, in MiB."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(name: str) -> float:
    found: Any = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / MIB
