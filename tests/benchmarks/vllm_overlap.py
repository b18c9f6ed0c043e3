"""Sampling ahead: the time of a step with max_staleness 0 and 1, a server and the trainer on a core each.

`nox -s bench_vllm -- overlap`. What a step must take at least is the longer of sampling and training, as the run with
max_staleness 0 takes them one after the other.
"""

import argparse
import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from measuring import console, middle_half, new_table, show
from vllm_engines import MODELS

from plugrad.config.run_file import RunFile
from plugrad.rollout.servers.server_engine import ServerEngine
from plugrad.trainer import engines
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

GOAL = 1.15
WARM_UP = 3
TRAINERS_CORE, SERVERS_CORE = 0, 1


class OnAnotherCore(ServerEngine):
    """Starts its server on a core where the trainer is not."""

    def __init__(self, *arguments: object, **options: object) -> None:
        os.sched_setaffinity(0, {SERVERS_CORE})
        try:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
        finally:
            os.sched_setaffinity(0, {TRAINERS_CORE})


def seconds(folder: Path, model: int, max_staleness: int, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Train, and return the seconds of each step, and of these how long it waited for rollouts."""
    fields = list(MODELS.values())[model]
    run_file = RunFile(
        output_dir=str(folder / str(max_staleness)),
        max_steps=WARM_UP + arguments.steps,
        metrics=[],
        model={"from_scratch": {"model_type": "qwen3", **fields}},
        environment={"name": "arithmetic", "kwargs": {"digits": 2}},
        rollout={
            "engine": "vllm-server",
            "prompts_per_step": arguments.prompts[model],
            "rollouts_per_example": 8,
            "max_new_tokens": arguments.tokens,
            "max_staleness": max_staleness,
            "parity_every_steps": 1000,
        },
        optimizer={"lr": 1e-6},
    )
    records = train(run_file, overwrite=True, display=Silent()).records[WARM_UP:]
    return [(record["seconds"], record["rollouts_s"]) for record in records]


def measure(model: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Show what a step takes, and what it must."""
    in_turn: list[tuple[float, float]] = []
    ahead: list[float] = []
    for number in range(arguments.rounds):
        in_turn += seconds(folder / str(number), model, 0, arguments)
        ahead += [step for step, _ in seconds(folder / str(number), model, 1, arguments)]
    rows = {
        "sampling": [waited for _, waited in in_turn],
        "training and update": [step - waited for step, waited in in_turn],
        "a step, max_staleness 0": [step for step, _ in in_turn],
        "a step, max_staleness 1": ahead,
    }
    table = new_table("", "SECONDS", "MIDDLE HALF")
    for name, own in rows.items():
        table.add_row(name, f"{median(own):.2f}", middle_half(own, ".2f"))
    show(f"{list(MODELS)[model]}, {8 * arguments.prompts[model]} rollouts a step", table)
    longer = max(median(rows["sampling"]), median(rows["training and update"]))
    ratio = median(ahead) / longer
    console.print(f"with max_staleness 1 a step takes {ratio:.2f} of the longer of the two (goal: at most {GOAL})")


def main() -> None:
    """Show a table for each model."""
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    vars(engines)["ServerEngine"] = OnAnotherCore
    with TemporaryDirectory() as name:
        for model in arguments.models:
            measure(model, Path(name) / str(model), arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[0, 1], help="0: the quickstart's, 1: the larger one")
    parser.add_argument(
        "--prompts", type=int, nargs=2, default=[128, 16], help="a step, with 8 rollouts each: of each model"
    )
    parser.add_argument("--tokens", type=int, default=32, help="of a completion, at most")
    parser.add_argument("--steps", type=int, default=10, help="that count")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
