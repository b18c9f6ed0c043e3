"""The share of the per-sequence form in a training step: `python -m nox -s bench -- sequence_adapter_in_training`.

The steps are those of the quickstart's reinforcement learning, with a model that has learned nothing yet. It earns no
reward, so all runs sample the same rollouts, and step i of one run is compared with step i of another.
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import ppo_clip_styles
import torch
from measuring import against_goal, middle_half, new_table, show

from plugrad import RunFile, train
from plugrad.trainer.record.display import Silent

STEPS, WARM_UP, ROUNDS = 12, 2, 3
STAGES = ("supervised", "reinforce")
GOAL_PERCENT = 15.0
LOSSES = {"batch form": "in_batch_form", **ppo_clip_styles.STYLES}
Records = list[dict[str, Any]]


def run_file(function: str, folder: Path) -> RunFile:
    """Return the quickstart's second stage, short, with this loss and a fresh model."""
    stages = {name: tomllib.loads(files("plugrad.runs").joinpath(f"{name}.toml").read_text()) for name in STAGES}
    changes = {
        "max_steps": STEPS,
        "output_dir": str(folder),
        "model": stages["supervised"]["model"],
        "loss": {"name": f"{ppo_clip_styles.__file__}:{function}"},
        "extension": [{"name": "timing"}],
        "evaluation": {"every_steps": 0},
    }
    return RunFile.model_validate({**stages["reinforce"], **changes})


def steps_of(function: str) -> Records:
    """Train, and return the records of the steps that count."""
    with TemporaryDirectory() as folder:
        return train(run_file(function, Path(folder) / "run"), display=Silent()).records[WARM_UP:]


def in_turn() -> dict[str, Records]:
    """Return each form's steps; the runs are taken in turn, several times."""
    steps: dict[str, Records] = {label: [] for label in LOSSES}
    for _ in range(ROUNDS):
        for label, function in LOSSES.items():
            steps[label] += steps_of(function)
    return steps


def shares(label: str, steps: Records) -> list[float]:
    """Return what percentage of each step is spent inside `compute_loss`."""
    name = f"timing/compute_loss/{LOSSES[label]}_s"
    return [100 * step[name] / step["seconds"] for step in steps]


def longer_than(steps: Records, reference: Records) -> list[float]:
    """Return by how many percent each step takes longer than the same step of the reference."""
    pairs = zip(steps, reference, strict=True)
    return [100 * (step["seconds"] / same["seconds"] - 1) for step, same in pairs]


def main() -> None:
    """Show one row a form of the loss."""
    torch.set_num_threads(1)
    steps = in_turn()
    table = new_table("PPO-CLIP", "STEP, S", "COMPUTE_LOSS, %", "GOAL", "WHOLE STEP LONGER, %", "MIDDLE HALF")
    for label, own in steps.items():
        inside, longer = shares(label, own), longer_than(own, steps["batch form"])
        goal = against_goal(inside, None if label == "batch form" else GOAL_PERCENT, ".0f", "%")
        step_s = median(step["seconds"] for step in own)
        table.add_row(
            label, f"{step_s:.3f}", f"{median(inside):.2f}", goal, f"{median(longer):+.1f}", middle_half(longer, "+.1f")
        )
    show(f"Quickstart's reinforcement learning: {ROUNDS} runs of {STEPS - WARM_UP} steps each", table)


if __name__ == "__main__":
    main()
