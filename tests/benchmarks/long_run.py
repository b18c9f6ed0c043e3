"""Step time and memory over thousands of steps, to see that neither grows: `python tests/benchmarks/long_run.py`.

A tiny model and short completions: what a step costs beside the model is what could add up. `--trace` also prints which
lines of code hold more memory at the end than after the first interval.
"""

import argparse
import gc
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from measuring import console, new_table, show

from plugrad import RunFile
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
STATUS = Path("/proc/self/status")
PRINTED_LINES = 15


class Watching(Silent):
    """Notes step time and memory, an interval at a time."""

    def __init__(self, interval: int, *, traces: bool) -> None:
        self.rows: list[tuple[int, float, float]] = []
        """The last step of an interval, the median of its step times in seconds, and resident MiB at its end."""
        self.snapshots: list[tracemalloc.Snapshot] = []
        """After the first interval and after the latest, before the model is saved."""
        self._interval, self._traces = interval, traces
        self._seconds: list[float] = []

    def step(self, record: Mapping[str, float | int]) -> None:
        """Note a step, and at the end of an interval the memory."""
        self._seconds.append(record["seconds"])
        if len(self._seconds) < self._interval:
            return
        gc.collect()
        self.rows.append((int(record["step"]), median(self._seconds), resident_mib()))
        console.print(f"step {record['step']}: {1000 * self.rows[-1][1]:.2f} ms, {self.rows[-1][2]:,.1f} MiB")
        if self._traces:
            self.snapshots[1:] = [tracemalloc.take_snapshot()]
        self._seconds = []


def resident_mib() -> float:
    """Return the memory that this process holds now; NaN where the system does not say."""
    lines = STATUS.read_text(encoding="utf-8").splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), float("nan"))


def main() -> None:
    """Show one row an interval."""
    arguments = _arguments()
    torch.set_num_threads(1)
    watching = Watching(arguments.interval, traces=arguments.trace)
    if arguments.trace:
        tracemalloc.start()
    with TemporaryDirectory() as folder:
        train(_run_file(Path(folder), arguments), display=watching)
        if watching.snapshots:
            _show_growth(*watching.snapshots)
    table = new_table("UP TO STEP", "MS A STEP", "MIB", "KB A STEP SINCE THE FIRST ROW")
    first_step, _, first_mib = watching.rows[0]
    for step, seconds, mib in watching.rows:
        growth = f"{1024 * (mib - first_mib) / (step - first_step):+.2f}" if step > first_step else ""
        table.add_row(f"{step:,}", f"{1000 * seconds:.2f}", f"{mib:,.1f}", growth)
    show(f"{arguments.steps:,} steps, one thread", table)


def _run_file(folder: Path, arguments: argparse.Namespace) -> RunFile:
    tables = {
        "output_dir": str(folder / "run"),
        "max_steps": arguments.steps,
        "model": {"from_scratch": TINY},
        "environment": {"name": "arithmetic", "kwargs": {"digits": 1}},
        "rollout": {
            "prompts_per_step": 2,
            "rollouts_per_example": 2,
            "max_new_tokens": 2,
        },
        "extension": [{"name": "timing"}, {"name": "nan_guard"}],
    }
    return RunFile.model_validate(tables)


def _show_growth(first: tracemalloc.Snapshot, last: tracemalloc.Snapshot) -> None:
    ours = [tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)]
    for difference in last.filter_traces(ours).compare_to(first.filter_traces(ours), "lineno")[:PRINTED_LINES]:
        console.print(str(difference), markup=False, soft_wrap=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000, help="of the run")
    parser.add_argument("--interval", type=int, default=500, help="steps of a row")
    parser.add_argument("--trace", action="store_true", help="print where memory grew; steps take much longer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
