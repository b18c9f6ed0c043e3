"""Sums of two numbers: a task with a right answer that a small model learns in a minute."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from plugrad.contracts.rollout import Rollout

HELD_OUT_AT_MOST = 5
"""At most one in this many sums is held out."""


class Arithmetic:
    """`12+34=` is worth 1 if the completion is `46` (reversed: `64`), and 0 otherwise.

    Args:
        digits: the number of digits of both summands.
        reverse: write the last digit of the answer first, which lets a small model carry.
        num_train: the number of sums to train on. Default: all that are not held out, at most 10,000.
        num_eval: the number of held-out sums, at most a fifth of all sums. They are never trained on.
        seed: decides which sums are held out.
    """

    def __init__(
        self,
        digits: Annotated[int, Field(ge=1, le=9)] = 2,
        reverse: bool = False,
        num_train: Annotated[int, Field(ge=1)] | None = None,
        num_eval: Annotated[int, Field(ge=0)] = 512,
        seed: int = 0,
    ) -> None:
        self._reverse = reverse
        first, numbers = 10 ** (digits - 1), 9 * 10 ** (digits - 1)
        total = numbers**2
        num_eval = min(num_eval, total // HELD_OUT_AT_MOST)
        num_train = min(num_train or 10_000, total - num_eval)
        chosen = random.Random(seed).sample(range(total), num_eval + num_train)
        sums = [self._example(first + index // numbers, first + index % numbers) for index in chosen]
        self._eval, self._train = sums[:num_eval], sums[num_eval:]

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the sums to train on."""
        return self._train

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return the held-out sums."""
        return self._eval

    def score(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 for the right answer, 0 for any other."""
        return [float(rollout["completion"] == rollout["example"]["reference"]) for rollout in rollouts]

    def _example(self, left: int, right: int) -> dict[str, Any]:
        answer = str(left + right)
        prompt = f"{left}+{right}="
        return {"example_id": prompt, "prompt": prompt, "reference": answer[::-1] if self._reverse else answer}
