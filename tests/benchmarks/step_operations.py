"""What a step does, counted: `python tests/benchmarks/step_operations.py --before ../before`.

Tensor operations in the steps of two small runs, by this plugrad and by that of another checkout. Where other work keeps
the machine busy, times say little of two per cent; counts are the same every time.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import turns
from experiment import Experiment, sampled
from measuring import new_table, show
from plugrad_work import Reporting, run_file
from torch.utils._python_dispatch import TorchDispatchMode

from plugrad import RunFile, train

STEPS = 3
"""Of each run. The first one, which does more, is not counted."""
SUPERVISED: dict[str, Any] = {
    "rollout": {"engine": "dataset", "prompts_per_step": 64, "rollouts_per_example": 1, "max_new_tokens": 5},
    "loss": {"name": "cross_entropy"},
}
RUNS: dict[str, dict[str, Any]] = {"64 references, cross_entropy": SUPERVISED, "64 sampled completions, ppo_clip": {}}


class Operations(TorchDispatchMode):
    """Counts the operations in the block, those of backward passes too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation and do it."""
        self.number += 1
        return func(*args, **(kwargs or {}))


class Counting(Reporting):
    """A display that reports what each step did."""

    def __init__(self, turns: turns.Turns, operations: Operations) -> None:
        super().__init__(turns)
        self._operations = operations

    def step(self, record: Any) -> None:
        """Report the number of operations since the last step."""
        self._turns.step_done({"operations": self._operations.number})
        self._operations.number = 0


def work(files: list[dict[str, Any]], turns: turns.Turns) -> None:
    """Train one run after the other, and count."""
    for file in files:
        operations = Operations()
        with operations:
            train(RunFile.model_validate(file), display=Counting(turns, operations))


def main() -> None:
    """Show a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="another checkout of plugrad")
    imports = {"before": parser.parse_args().before / "core"}
    with TemporaryDirectory() as folder:
        experiment = sampled(Path(folder), STEPS)
        workers = {name: partial(work, _files(experiment, name)) for name in ("now", "before")}
        steps = turns.in_turn(workers, rounds=STEPS * len(RUNS), warm_up=0, imports=imports)
    table = new_table("A STEP ON", *workers, "SHARE")
    for number, title in enumerate(RUNS):
        counted = slice(number * STEPS + 1, (number + 1) * STEPS)
        now, before = (median(step["operations"] for step in steps[name][counted]) for name in workers)
        table.add_row(title, f"{now:,.0f}", f"{before:,.0f}", f"{now / before:.3f}")
    show("Tensor operations", table)


def _files(experiment: Experiment, name: str) -> list[dict[str, Any]]:
    """Return the runs as plain tables, which any plugrad reads."""
    own = [run_file(experiment, f"{name}-{number}").model_dump(exclude_unset=True) for number in range(len(RUNS))]
    return [{**file, **tables} for file, tables in zip(own, RUNS.values(), strict=True)]


if __name__ == "__main__":
    main()
