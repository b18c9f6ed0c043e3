"""Runs with a disease, each trained once, and records that no short run makes."""

import json
from textwrap import dedent

import numpy as np
import pytest

from plugrad import RunFile, RunRecords, Series
from plugrad.diagnosis import diagnose
from plugrad.trainer.record.display import Silent
from plugrad.trainer.train import train

TINY = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
PARTS = """
    import random
    import plugrad

    def ones(completion, example):
        return completion.count("1")

    def nothing(completion, example):
        return 0.0

    def by_example(completion, example):
        return float(example["reference"] == "7")

    def but_by_example(completion, example):
        return float(example["reference"] != "7")

    DRAWN = random.Random(2)

    def chance(completion, example):
        return DRAWN.random()

    class Split:
        def train_examples(self):
            return [{"prompt": f"{i}=", "sign": 1.0} for i in range(8)]

        def eval_examples(self):
            return [{"prompt": f"{i}=", "sign": -1.0} for i in range(8)]

        def score(self, rollouts):
            return [rollout["example"]["sign"] * rollout["completion"].count("1") for rollout in rollouts]

    @plugrad.loss(policy_gradient=False)
    def sometimes_nan(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
        factor = float("nan") if inputs.step % 2 and inputs.step > 2 else 1.0
        return plugrad.LossOutputs(-inputs.trainer_logprobs * factor)

    @plugrad.loss(policy_gradient=False)
    def no_slope(inputs: plugrad.BatchLossInputs) -> plugrad.LossOutputs:
        return plugrad.LossOutputs(inputs.trainer_logprobs * 0)

    def void(inputs: plugrad.MetricInputs):
        return {"value": float("nan") if inputs.step >= 0 else 1.0}

    class LikesLength:
        @plugrad.hookimpl(wrapper=True)
        def prepare_advantages(self, inputs):
            from dataclasses import replace
            inputs = yield
            return replace(inputs, rewards=inputs.completion_lengths.double())

    class Finds:
        @plugrad.hookimpl
        def find_in_records(self, records):
            mean = records.series("reward").mean()
            return [plugrad.Finding("low", "warning", "The reward is low", f"reward had a mean of {mean:.2f}", "Raise it.")]

    class Fails:
        @plugrad.hookimpl
        def find_in_records(self, records):
            raise SystemExit("on purpose")

    class ReturnsText:
        @plugrad.hookimpl
        def find_in_records(self, records):
            return ["low"]
"""


@pytest.fixture(scope="session")
def train_tiny(tmp_path_factory):
    """Train a tiny model with some tables of the run file replaced; return the run folder."""
    folder = tmp_path_factory.mktemp("diagnosed")
    lines = [json.dumps({"prompt": f"{i}=", "reference": str(i)}) for i in range(8)]
    (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "parts.py").write_text(dedent(PARTS))

    def train_it(name, *, reward="ones", **tables):
        environment = {"name": "jsonl", "kwargs": {"path": "tasks.jsonl", "reward": f"parts.py:{reward}"}}
        defaults = {
            "output_dir": str(folder / name),
            "search_paths": [str(folder)],
            "max_steps": 12,
            "model": {"from_scratch": TINY},
            "environment": environment,
            "rollout": {"prompts_per_step": 4, "rollouts_per_example": 4, "max_new_tokens": 4},
            "optimizer": {"lr": 1e-2},
            "checkpoint": {"every_minutes": 0},
        }
        train(RunFile(**{**defaults, **tables}), overwrite=True, display=Silent())
        return folder / name

    return train_it


@pytest.fixture
def found():
    """Return the findings of a run folder, by name."""
    return lambda folder: {finding.name: finding for finding in diagnose(folder)}


@pytest.fixture
def made_up(tmp_path):
    """Make records of numbers, each a list from step 1 on or a mapping from steps, and keys of the run file."""

    def make(numbers, run_file=None, samples=(), **plugins):
        return RunRecords(
            folder=tmp_path,
            run_file=run_file or {},
            plugins=plugins,
            num_steps=max(map(len, numbers.values()), default=0),
            numbers={name: series_of(values) for name, values in numbers.items()},
            samples=samples,
        )

    return make


def series_of(values):
    steps = list(values) if isinstance(values, dict) else range(1, len(values) + 1)
    numbers = values.values() if isinstance(values, dict) else values
    return Series(np.array(list(steps), dtype=np.int64), np.array(list(numbers), dtype=float))
