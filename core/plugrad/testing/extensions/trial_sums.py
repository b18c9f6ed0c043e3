"""The environment of the kit's own run: sums of one digit, with the columns that the author of the extension added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plugrad.contracts.rollout import Rollout
from plugrad.testing.trial_examples import trial_example


class TrialSums:
    """`1+2=` is worth 1 if the completion is `3`."""

    def __init__(self) -> None:
        sums = [(f"{left}+{right}=", str(left + right)) for left in range(1, 9) for right in range(1, 9)]
        self._examples = [trial_example(example_id=prompt, prompt=prompt, reference=answer) for prompt, answer in sums]

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the sums."""
        return self._examples

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return none: the run evaluates nothing."""
        return []

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 for the right answer, 0 for any other."""
        return [float(rollout["completion"] == rollout["example"]["reference"]) for rollout in rollouts]
