"""What samples and a tracker cost a step: `python tests/benchmarks/seeing.py`. The tracker is TensorBoard.

Whole runs in turn, with and without, and the seconds that the loop itself spends on them.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

from measuring import console, in_turn, middle_half, new_table, show

from plugrad import RunFile, train
from plugrad.trainer.record.display import Silent
from plugrad.trainer.samples.samples import Samples
from plugrad.trainer.tracking.trackers import Trackers

MODEL = {"model_type": "qwen3", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "head_dim": 32}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "neither": {"samples": {"every_steps": 0}},
    "samples": {},
    "samples, tensorboard": {"tracking": {"with": ["tensorboard"]}},
}


class Timed:
    """A method that notes how long its calls take, in the thread that calls it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.seconds = 0.0
        self._method = method

    def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
        """Return the method, bound."""
        return partial(self._call, instance)

    def _call(self, *arguments: Any, **options: Any) -> Any:
        started = perf_counter()
        try:
            return self._method(*arguments, **options)
        finally:
            self.seconds += perf_counter() - started


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    of_training, record = Timed(Samples.of_training), Timed(Trackers.record)
    shares: dict[str, list[float]] = {way: [] for way in WAYS}
    with (
        TemporaryDirectory() as folder,
        patch.object(Samples, "of_training", of_training),
        patch.object(Trackers, "record", record),
    ):
        calls = {way: partial(_run, Path(folder), way, asked.steps, [of_training, record], shares) for way in WAYS}
        seconds = in_turn(calls, rounds=asked.rounds)
    table = new_table("with", "ms/step, whole run", "middle half", "paired difference, %", "in the loop, % of a step")
    for way, values in seconds.items():
        paired = [100 * (value / plain - 1) for value, plain in zip(values, seconds["neither"], strict=True)]
        each = [1000 * value / asked.steps for value in values]
        cells = (
            f"{median(each):.1f}",
            middle_half(each, ".1f"),
            f"{median(paired):+.1f}",
            f"{100 * median(shares[way]):.2f}",
        )
        table.add_row(way, *cells)
    show(f"Runs of {asked.steps} steps, opening and closing included", table)
    console.print("At defaults: 8 samples of every 10th step.")


def _run(folder: Path, way: str, steps: int, methods: list[Timed], shares: dict[str, list[float]]) -> None:
    for method in methods:
        method.seconds = 0.0
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
    shares[way].append(sum(method.seconds for method in methods) / in_steps)


if __name__ == "__main__":
    main()
