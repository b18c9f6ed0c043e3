"""What checkpoints cost a run, and what going on from one costs: `python tests/benchmarks/checkpoint.py`.

A checkpoint after every step, beside a plain copy of the same tensors, weights and AdamW's state, in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from unittest.mock import patch

import tomli_w
import torch
from measuring import console, in_turn, new_table, seconds_of, show
from torch import Tensor

from plugrad import RunFile, train
from plugrad.config.tables.checkpoint_table import CheckpointTable
from plugrad.trainer.checkpoints import writing
from plugrad.trainer.checkpoints.checkpoint_folder import MANIFEST, steps_in
from plugrad.trainer.checkpoints.snapshot import Contents, Copying, Place, Snapshot, snapshot
from plugrad.trainer.checkpoints.training_tensors import optimizer_tensors, policy_tensors
from plugrad.trainer.record.display import Silent

LAYERS = {
    "0.5": {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 4, "head_dim": 24},
    "50": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "head_dim": 64},
}
"""By millions of parameters."""
EVERY_S = 60 * CheckpointTable().every_minutes
MIB = 2**20


class Copies:
    """Takes the place of `snapshot` in a run, and first copies the same tensors plainly."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.seconds_of_copies: list[float] = []
        self.num_bytes = self.num_parameters = 0

    def __call__(self, contents: Contents, place: Place, copying: Copying) -> Snapshot:
        """Copy twice, and note how long each takes."""
        weights = policy_tensors(contents.learner)
        tensors: Mapping[str, Tensor] = {**weights, **optimizer_tensors(contents.learner)[0]}
        self.num_parameters = sum(tensor.numel() for tensor in weights.values())
        self.num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        self.seconds_of_copies.append(seconds_of(lambda: {name: tensor.clone() for name, tensor in tensors.items()}))
        started = perf_counter()
        copies = snapshot(contents, place, copying)
        self.seconds.append(perf_counter() - started)
        return copies


def run_file(folder: Path, layers: Mapping[str, int], steps: int) -> RunFile:
    """Return a run whose steps are short: what they train on does not matter here."""
    tables: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "max_steps": steps,
        "model": {"from_scratch": {"model_type": "qwen3", **layers}},
        "environment": {"name": "arithmetic", "kwargs": {"digits": 1}},
        "rollout": {"prompts_per_step": 4, "rollouts_per_example": 2, "max_new_tokens": 2},
        "checkpoint": {"every_steps": 1, "keep": steps},
    }
    return RunFile(**tables)


def checkpoints(millions: str, steps: int) -> list[str]:
    """Train, and return the row of a model."""
    copies = Copies()
    with TemporaryDirectory() as name:
        # Where the run looks it up.
        with patch.object(writing, "snapshot", copies):
            run = train(run_file(Path(name), LAYERS[millions], steps), display=Silent()).folder
        manifests = [json.loads((run / "checkpoints" / f"step_{step:06d}" / MANIFEST).read_text()) for step in steps_in(run)]
    # The first makes the memory that the others use.
    first, *blocked = copies.seconds
    copied = copies.seconds_of_copies[1:]
    written = median(facts["seconds_to_write"] for facts in manifests)
    return [
        f"{copies.num_parameters / 1e6:.1f} M",
        f"{copies.num_bytes / MIB:,.0f}",
        f"{1e3 * median(copied):.1f}",
        f"{1e3 * median(blocked):.1f}",
        f"{1e3 * first:.1f}",
        f"{written:.2f}",
        f"{median(blocked) / EVERY_S:.4%}",
    ]


def start_up(millions: str, rounds: int) -> list[str]:
    """Return the row of a model: a command that does one step, from the beginning and after a checkpoint."""
    with TemporaryDirectory() as name:
        path = Path(name) / "run.toml"
        path.write_text(tomli_w.dumps(run_file(Path(name), LAYERS[millions], 1).model_dump(exclude_none=True)))
        done = 1

        def fresh() -> None:
            command(path, "--overwrite", "--set", f"output_dir={Path(name) / 'fresh'}")

        def goes_on() -> None:
            nonlocal done
            done += 1
            command(path, "--resume", "--set", f"max_steps={done}")

        command(path)
        seconds = in_turn({"fresh": fresh, "goes on": goes_on}, rounds=rounds, warm_up=0)
    return [f"{millions} M", *(f"{median(own):.1f}" for own in seconds.values())]


def command(path: Path, *arguments: str) -> None:
    """Run `plugrad train`."""
    words = [sys.executable, "-m", "plugrad", "train", str(path), *arguments]
    done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Show two tables with one row a model."""
    arguments = _arguments()
    torch.set_num_threads(1)
    table = new_table("PARAMETERS", "MIB", "COPY, MS", "BLOCKED, MS", "THE FIRST", "IN THE BACKGROUND, S", "OF TEN MINUTES")
    for millions in arguments.millions:
        table.add_row(*checkpoints(millions, 1 + arguments.steps))
    show(f"checkpoints after {arguments.steps} steps and one to warm up, one thread", table)
    table = new_table("PARAMETERS", "FRESH, S", "WITH --RESUME, S")
    for millions in arguments.millions:
        table.add_row(*start_up(millions, arguments.rounds))
    show(f"a command that does one step and saves model and checkpoint, {arguments.rounds} times in turn", table)
    console.print("the second one reads the checkpoint, whose sums it checks")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", choices=LAYERS, nargs="+", default=list(LAYERS), help="of parameters")
    parser.add_argument("--steps", type=int, default=8, help="with a checkpoint each, after one to warm up")
    parser.add_argument("--rounds", type=int, default=3, help="commands of each kind")
    return parser.parse_args()


if __name__ == "__main__":
    main()
