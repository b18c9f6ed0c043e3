"""Environment: where examples come from and what a completion of one is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from plugrad.contracts.rollout import Rollout

Example = Mapping[str, Any]
Score = float | Mapping[str, float]


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
