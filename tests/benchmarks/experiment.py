"""The same step for every trainer that is compared: the model's folder, the batch and the optimizer's settings."""

import json
import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from plugrad.config.tables.model_table import ModelTable
from plugrad.policy.loading import load_model, quiet_transformers
from plugrad.standard.environments.arithmetic import Arithmetic

PROMPT_TOKENS = 16
LENGTHS = (16, 512)
MEDIAN_LENGTH, SIGMA = 128, 0.7
FIRST_CHARACTER, NUM_CHARACTERS = 0x3400, 20_000
"""A block of Unicode in which every code point is a character: each is one token."""
OPTIMIZER: dict[str, Any] = {"lr": 1e-6, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "max_grad_norm": 1.0}


@dataclass(frozen=True)
class Experiment:
    """One batch of completions a step, sampled or recorded."""

    folder: Path
    """Holds `model/` and, where completions are recorded, `recorded.jsonl`."""
    num_steps: int
    num_prompts: int
    completions_per_prompt: int
    prompt_tokens: int
    max_new_tokens: int
    rows_per_micro_batch: int
    """Of the longest possible sequence: so many times its tokens are the budget of one forward pass."""
    is_recorded: bool

    @property
    def model(self) -> Path:
        """The model and its tokenizer, an ordinary Transformers folder."""
        return self.folder / "model"

    @property
    def recording(self) -> Path:
        """One completion a line: `prompt`, `reference` and `reward`."""
        return self.folder / "recorded.jsonl"

    @property
    def num_completions(self) -> int:
        """In one step."""
        return self.num_prompts * self.completions_per_prompt

    @property
    def token_budget(self) -> int:
        """Of a micro-batch."""
        return self.rows_per_micro_batch * (self.prompt_tokens + self.max_new_tokens)

    def recorded(self) -> list[dict[str, Any]]:
        """Return the recorded completions, those of one prompt beside each other."""
        return [json.loads(line) for line in self.recording.read_text().splitlines()]


def sums() -> list[dict[str, Any]]:
    """Return the examples of the quickstart."""
    return list(Arithmetic(digits=2, reverse=True).train_examples())


def sampled(folder: Path, num_steps: int) -> Experiment:
    """Prepare the quickstart's model as it is before it has learnt anything, and 8 completions of each of 8 sums."""
    experiment = Experiment(folder, num_steps, 8, 8, 6, 32, rows_per_micro_batch=64, is_recorded=False)
    quickstart = tomllib.loads(files("plugrad.runs").joinpath("supervised.toml").read_text())
    _save_model(
        experiment, quickstart["model"]["from_scratch"], [text for s in sums() for text in (s["prompt"], s["reference"])]
    )
    return experiment


def recorded(folder: Path, num_steps: int, *, vocabulary: int, num_prompts: int) -> Experiment:
    """Prepare a model of 6 layers, and 8 recorded completions of log-normal length for each of `num_prompts` prompts."""
    experiment = Experiment(folder, num_steps, num_prompts, 8, PROMPT_TOKENS, LENGTHS[1], 8, is_recorded=True)
    lines = _recording(experiment)
    texts = [text for line in lines for text in (line["prompt"], line["reference"])]
    _save_model(experiment, _six_layers(vocabulary), texts)
    experiment.recording.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return experiment


def _recording(experiment: Experiment) -> list[dict[str, Any]]:
    draw = random.Random(0)
    lines = []
    for _ in range(experiment.num_prompts):
        prompt = _text(draw, experiment.prompt_tokens)
        for _ in range(experiment.completions_per_prompt):
            length = _length(draw)
            # Longer ones earn more: advantages that cancel would leave a loss of rounding errors to compare.
            reward = draw.random() + length / LENGTHS[1]
            # The end-of-sequence token is one of the completion's tokens.
            lines.append({"prompt": prompt, "reference": _text(draw, length - 1), "reward": reward})
    return lines


def _length(draw: random.Random) -> int:
    return round(min(max(MEDIAN_LENGTH * draw.lognormvariate(0, SIGMA), LENGTHS[0]), LENGTHS[1]))


def _text(draw: random.Random, num_tokens: int) -> str:
    return "".join(chr(FIRST_CHARACTER + draw.randrange(NUM_CHARACTERS)) for _ in range(num_tokens))


def _six_layers(vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "vocab_size": vocabulary,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 64,
    }


def _save_model(experiment: Experiment, from_scratch: dict[str, Any], texts: Sequence[str]) -> None:
    quiet_transformers()
    loaded = load_model(ModelTable(from_scratch=from_scratch), texts)
    loaded.model.save_pretrained(experiment.model)
    loaded.tokenizer.save_pretrained(experiment.model)
