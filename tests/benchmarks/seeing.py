"""What samples, a tracker and captures cost a step: `python tests/benchmarks/seeing.py`. The tracker is TensorBoard.

Whole runs in turn, with and without, and the seconds that the loop itself spends on them.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

from measuring import console, in_turn, middle_half, new_table, show

from plugrad import RunFile, train
from plugrad.trainer.capture.captures import Captures
from plugrad.trainer.capture.watch import Watch
from plugrad.trainer.record.display import Silent
from plugrad.trainer.samples.samples import Samples
from plugrad.trainer.tracking.trackers import Trackers

MODEL = {"model_type": "qwen3", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "head_dim": 32}
MOST_STEPS = 100
WAYS: Mapping[str, Mapping[str, Any]] = {
    "nothing": {"samples": {"every_steps": 0}, "capture": {"on_failure": False}},
    "captures of failures": {"samples": {"every_steps": 0}},
    "samples too: the defaults": {},
    "defaults, tensorboard": {"tracking": {"with": ["tensorboard"]}},
    "nothing, every step captured": {"samples": {"every_steps": 0}, "capture": {"steps": list(range(1, MOST_STEPS + 1))}},
}

TIMED = (
    (Samples, "of_training", False),
    (Trackers, "record", False),
    (Captures, "watch", False),
    (Captures, "after_updates", False),
    (Captures, "of_failures", True),
    (Watch, "begin", False),
    (Watch, "advantage", True),
    (Watch, "passing", True),
    (Watch, "call", True),
)
"""Methods by their owner and name, and whether they return a context."""


class Timed:
    """A method that notes how long its calls take, in the thread that calls it."""

    seconds = 0.0
    """Of all of them."""
    is_inside = False

    def __init__(self, method: Callable[..., Any], enters: bool = False) -> None:
        self._method, self._enters = method, enters

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        """Return the method, bound."""
        return partial(self._call, instance)

    def _call(self, *arguments: Any, **options: Any) -> Any:
        with self._timed():
            found = self._method(*arguments, **options)
        return self._around(found) if self._enters else found

    @contextmanager
    def _around(self, context: Any) -> Iterator[None]:
        """Time how a context begins and ends, without its body."""
        with self._timed():
            context.__enter__()
        try:
            yield
        finally:
            with self._timed():
                context.__exit__(*sys.exc_info())

    @contextmanager
    def _timed(self) -> Iterator[None]:
        # One that another of them calls is timed already.
        if Timed.is_inside:
            yield
            return
        Timed.is_inside, started = True, perf_counter()
        try:
            yield
        finally:
            Timed.is_inside = False
            Timed.seconds += perf_counter() - started


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if asked.steps > MOST_STEPS:
        parser.error(f"at most {MOST_STEPS} steps")
    shares: dict[str, list[float]] = {way: [] for way in WAYS}
    with TemporaryDirectory() as folder, ExitStack() as patches:
        for owner, name, enters in TIMED:
            patches.enter_context(patch.object(owner, name, Timed(getattr(owner, name), enters)))
        calls = {way: partial(_run, Path(folder), way, asked.steps, shares) for way in WAYS}
        seconds = in_turn(calls, rounds=asked.rounds)
    table = new_table("with", "ms/step, whole run", "middle half", "paired difference, %", "in the loop, % of a step")
    for way, values in seconds.items():
        paired = [100 * (value / plain - 1) for value, plain in zip(values, seconds["nothing"], strict=True)]
        each = [1000 * value / asked.steps for value in values]
        cells = (
            f"{median(each):.1f}",
            middle_half(each, ".1f"),
            f"{median(paired):+.1f}",
            f"{100 * median(shares[way]):.2f}",
        )
        table.add_row(way, *cells)
    show(f"Runs of {asked.steps} steps, opening and closing included", table)
    console.print(
        "At defaults: 8 samples of every 10th step, and what a failure would capture is held. A captured step copies and "
        "gathers in the loop, and writes in the background."
    )


def _run(folder: Path, way: str, steps: int, shares: dict[str, list[float]]) -> None:
    Timed.seconds = 0.0
    run_file = RunFile(
        output_dir=str(folder / way),
        max_steps=steps,
        model={"from_scratch": MODEL},
        environment={"name": "arithmetic"},
        rollout={"prompts_per_step": 8, "rollouts_per_example": 4, "max_new_tokens": 16},
        **WAYS[way],
    )
    result = train(run_file, overwrite=True, display=Silent())
    in_steps = sum(value for _, value in result.series("seconds"))
    shares[way].append(Timed.seconds / in_steps)


if __name__ == "__main__":
    main()
