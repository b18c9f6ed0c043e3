"""What critics, losses of the whole batch and teachers add to a step: `python -m nox -s bench -- beyond_logprobs`.

Real runs with a model of two million parameters that replay the same completions, so that a step is its updates. Step i of
one run is compared with step i of another.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import beyond_plugins
import torch
from measuring import against_goal, middle_half, new_table, show

from plugrad import RunFile, train
from plugrad.trainer.record.display import Silent

WARM_UP = 1
PLUGINS = beyond_plugins.__file__
PPO = {"name": "ppo_clip"}
CASES: dict[str, tuple[dict[str, Any], str | None, float | None]] = {
    "ppo_clip": ({"loss": [PPO]}, None, None),
    "and a critic": (
        {
            "loss": [PPO, {"name": f"{PLUGINS}:squared_error", "weight": 0.5}],
            "advantage": {"name": f"{PLUGINS}:reward_less_value"},
            "critic": {},
        },
        "ppo_clip",
        35.0,
    ),
    "row by row": ({"loss": [{"name": f"{PLUGINS}:own_rows"}]}, None, None),
    # A forward pass is one of three: the backward pass forms two gradients.
    "whole batch": ({"loss": [{"name": f"{PLUGINS}:all_rows"}]}, "row by row", 100 / 3),
    "divergence": ({"loss": [PPO, {"name": f"{PLUGINS}:far_from_the_teacher"}]}, "ppo_clip", None),
}
"""Changes of the run file, the case to compare with, and the goal in percent of its step."""
Records = list[dict[str, Any]]


def run_file(case: str, arguments: Namespace, folder: Path) -> RunFile:
    """Return the run of a case."""
    sizes = {"hidden_size": arguments.hidden, "intermediate_size": 3 * arguments.hidden, "num_hidden_layers": 4}
    model: dict[str, Any] = {"from_scratch": {"model_type": "qwen3", **sizes}}
    if case == "divergence":
        model["teacher"] = {"name": str(folder / "ppo_clip" / "model")}
    return RunFile.model_validate(
        {
            "max_steps": WARM_UP + arguments.steps,
            "updates_per_batch": 4,
            "output_dir": str(folder / case),
            "model": model,
            "environment": {"name": f"{PLUGINS}:Digits"},
            "rollout": {
                "engine": "dataset",
                "prompts_per_step": 16,
                "rollouts_per_example": 2,
                "max_new_tokens": 2 * beyond_plugins.LENGTH,
            },
            "metrics": [],
            **CASES[case][0],
        }
    )


def steps_of_all(arguments: Namespace) -> dict[str, list[float]]:
    """Return the seconds of each case's steps that count; the runs are taken in turn."""
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        with TemporaryDirectory() as folder:
            for case in CASES:
                records = train(run_file(case, arguments, Path(folder)), display=Silent()).records
                seconds[case] += [record["seconds"] for record in records[WARM_UP:]]
    return seconds


def main() -> None:
    """Show one row a case."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds = steps_of_all(arguments)
    table = new_table("LOSSES", "STEP, S", "LONGER THAN", "BY, %", "MIDDLE HALF", "GOAL")
    for case, (_, reference, goal) in CASES.items():
        own = seconds[case]
        if reference is None:
            table.add_row(case, f"{median(own):.3f}", "", "", "", "")
            continue
        longer = [100 * (mine / its - 1) for mine, its in zip(own, seconds[reference], strict=True)]
        met = against_goal(longer, goal, ".0f", "%")
        table.add_row(case, f"{median(own):.3f}", reference, f"{median(longer):+.1f}", middle_half(longer, "+.1f"), met)
    show(f"Steps of 32 rollouts, 4 updates each: {arguments.rounds} runs of {arguments.steps} steps", table)


if __name__ == "__main__":
    main()
