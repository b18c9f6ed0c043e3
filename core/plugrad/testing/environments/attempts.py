"""Attempts at an environment's examples: completions to score."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugrad.contracts.environment import Example
from plugrad.contracts.rollout import Rollout
from plugrad.host.synthetic import make_rollout

NUM_EXAMPLES = 4
LONG = 20_000
ODD = (
    "",
    " \n\t",
    "0",
    "0" * LONG,
    "NaN",
    "-1e999",
    "1/0",
    '{"answer": ',
    "\\boxed{",
    "```python\nraise SystemExit\n```",
    "ü 漢字 🎲 \u202e\u0301",
    "\x00\x07",
)
"""What a policy writes before it has learned anything, and some of what it writes later."""


@dataclass(frozen=True)
class Attempt:
    """One completion of one example."""

    name: str
    example: Example
    completion: str

    def rollout(self) -> Rollout:
        """Return it as a rollout that is not scored yet, as the engine leaves it."""
        return make_rollout(
            random.Random(0),
            length=max(1, len(self.completion.split())),
            prompt=str(self.example["prompt"]),
            completion=self.completion,
            reward=math.nan,
            example=self.example,
        )


def attempts_at(examples: Sequence[Example]) -> list[Attempt]:
    """Return two plausible completions of each of the first examples: its own reference and another example's."""
    chosen = list(examples[:NUM_EXAMPLES])
    return [
        Attempt(f"the reward of completion {j} of example {i}", example, completion)
        for i, example in enumerate(chosen)
        for j, completion in enumerate([reference_of(example, "1"), reference_of(chosen[i - 1], "2")])
    ]


def reference_of(example: Example, otherwise: str) -> str:
    """Return the known answer, or `otherwise` if there is none."""
    return str(example.get("reference", otherwise))


def shorten(completion: Any) -> str:
    """Return the beginning of a completion, for an error message."""
    text = repr(completion)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(completion)} characters)"
