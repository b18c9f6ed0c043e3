"""plugrad's side of a comparison: `plugrad.train`, which reports each step when it is done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiment import OPTIMIZER, Experiment
from turns import Turns

from plugrad import RunFile, train
from plugrad.trainer.record.display import Silent

REWARDS = Path(__file__).with_name("recorded_rewards.py")


class Reporting(Silent):
    """A display that reports each step and waits for the next turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def step(self, record: Mapping[str, float | int]) -> None:
        """Report what is compared."""
        named = {"loss": "loss", "grad_norm": "grad_norm", "length": "completion_length/mean"}
        self._turns.step_done({name: record[column] for name, column in named.items()})


def plugrad_work(experiment: Experiment, turns: Turns, run: str = "run") -> None:
    """Train on the experiment's batches, in a run folder of that name."""
    train(run_file(experiment, run), display=Reporting(turns))


def run_file(experiment: Experiment, run: str = "run") -> RunFile:
    """Return the experiment as a run file."""
    parts = _replaying(experiment) if experiment.is_recorded else _sampling(experiment)
    tables: dict[str, Any] = {
        "output_dir": str(experiment.folder / run),
        "max_steps": experiment.num_steps,
        "tokens_per_micro_batch": experiment.token_budget,
        "model": {"name": str(experiment.model)},
        "loss": {"name": "ppo_clip"},
        "optimizer": OPTIMIZER,
        **parts,
    }
    return RunFile(**tables)


def _sampling(experiment: Experiment) -> dict[str, Any]:
    return {
        "environment": {"name": "arithmetic", "kwargs": {"digits": 2, "reverse": True}},
        "rollout": {
            "prompts_per_step": experiment.num_prompts,
            "rollouts_per_example": experiment.completions_per_prompt,
            "max_new_tokens": experiment.max_new_tokens,
        },
    }


def _replaying(experiment: Experiment) -> dict[str, Any]:
    """Each recorded completion is an example of its own: the engine replays one completion of an example."""
    kwargs = {"path": str(experiment.recording), "reward": f"{REWARDS}:recorded_reward"}
    return {
        "environment": {"name": "jsonl", "kwargs": kwargs},
        "rollout": {
            "engine": "dataset",
            "prompts_per_step": experiment.num_completions,
            "rollouts_per_example": 1,
            "max_new_tokens": experiment.max_new_tokens,
        },
        "advantage": {"name": f"{REWARDS}:mean_of_prompt"},
    }
