"""Environment: where examples come from and what a completion of one is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from plugrad.contracts.rollout import Rollout

Example = Mapping[str, Any]
Score = float | Mapping[str, float]


def finite_number(value: object) -> float | None:
    """Return what a score says as a float, or None where it is no finite number.

    A string is none even where it reads like one: "1.5" is more often a bug than a reward.
    """
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None


@runtime_checkable
class Environment(Protocol):
    """A class whose constructor's arguments are its options.

    An example is a mapping with a column `prompt` (a string, or chat messages) and, where completions are to be
    replayed or the answer is known, a column `reference` (a string). Other columns are the environment's own.
    """

    def train_examples(self) -> Sequence[Example]:
        """Return the examples to train on."""
        ...

    def eval_examples(self) -> Sequence[Example]:
        """Return held-out examples; may be empty."""
        ...

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[Score]:
        """Return one score per rollout, in order.

        A score is a finite number, or a mapping of named components: the reward is then the component `reward` if
        there is one, and the sum of the components otherwise.
        """
        ...
