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
from plugrad.trainer import engines
from plugrad.trainer.display import Silent
from plugrad.trainer.train import train

GOAL = 1.15
WARM_UP = 3
TRAINERS_CORE, SERVERS_CORE = 0, 1


class OnAnotherCore(engines.ServerEngine):
    """Starts its server on a core where the trainer is not."""

    def __init__(self, *arguments: object, **options: object) -> None:
        os.sched_setaffinity(0, {SERVERS_CORE})
        try:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
        finally:
            os.sched_setaffinity(0, {TRAINERS_CORE})


def seconds(folder: Path, max_staleness: int, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Train, and return the seconds of each step, and of these how long it waited for rollouts."""
    fields = list(MODELS.values())[arguments.model]
    run_file = RunFile(
        output_dir=str(folder / str(max_staleness)),
        max_steps=WARM_UP + arguments.steps,
        metrics=[],
        model={"from_scratch": {"model_type": "qwen3", **fields}},
        environment={"name": "arithmetic", "kwargs": {"digits": 2}},
        rollout={
            "engine": "vllm-server",
            "prompts_per_step": arguments.prompts,
            "rollouts_per_example": 8,
            "max_new_tokens": arguments.tokens,
            "max_staleness": max_staleness,
            "parity_every_steps": 1000,
        },
        optimizer={"lr": 1e-6},
    )
    records = train(run_file, overwrite=True, display=Silent()).records[WARM_UP:]
    return [(record["seconds"], record["rollouts_s"]) for record in records]


def main() -> None:
    """Show what a step takes, and what it must."""
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    engines.ServerEngine = OnAnotherCore  # type: ignore[misc]
    one_after_the_other: list[tuple[float, float]] = []
    ahead: list[float] = []
    with TemporaryDirectory() as name:
        for number in range(arguments.rounds):
            one_after_the_other += seconds(Path(name) / str(number), 0, arguments)
            ahead += [step for step, _ in seconds(Path(name) / str(number), 1, arguments)]
    sampling = median(waited for _, waited in one_after_the_other)
    training = median(step - waited for step, waited in one_after_the_other)
    table = new_table("", "SECONDS", "MIDDLE HALF")
    table.add_row("sampling", f"{sampling:.2f}", middle_half([waited for _, waited in one_after_the_other], ".2f"))
    table.add_row("training and update", f"{training:.2f}", middle_half([s - w for s, w in one_after_the_other], ".2f"))
    table.add_row(
        "a step, max_staleness 0", f"{sampling + training:.2f}", middle_half([s for s, _ in one_after_the_other], ".2f")
    )
    table.add_row("a step, max_staleness 1", f"{median(ahead):.2f}", middle_half(ahead, ".2f"))
    show(f"{list(MODELS)[arguments.model]}, {8 * arguments.prompts} rollouts a step", table)
    ratio = median(ahead) / max(sampling, training)
    console.print(f"with max_staleness 1 a step takes {ratio:.2f} of the longer of the two (goal: at most {GOAL})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=int, default=1, help="0: the quickstart's, 1: the larger one")
    parser.add_argument("--prompts", type=int, default=16, help="a step, with 8 rollouts each")
    parser.add_argument("--tokens", type=int, default=32, help="of a completion, at most")
    parser.add_argument("--steps", type=int, default=10, help="that count")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
