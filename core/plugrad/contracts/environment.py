"""Environment: where examples come from, and how completions are scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from plugrad.contracts.rollout import Rollout

Example = Mapping[str, Any]
Score = float | Mapping[str, float]


def finite_number(value: object) -> float | None:
    """Return a score as a float, or None if it is not a finite number.

    Strings do not count as numbers: "1.5" is more often a bug than a reward.
    """
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@runtime_checkable
class Environment(Protocol):
    """A class whose constructor arguments are its options.

    An example is a mapping with a column `prompt` (a string, or chat messages). A column `reference` (a string) holds the
    known answer, or the completion to replay. Other columns are up to the environment.

    An environment of several turns has `async def play(self, example, policy)` in place of `score`, with a `plugrad.Player`
    as the policy. It plays one rollout and returns its score.

    Every epoch takes the training examples in another order. Where the attribute `in_order` is True, it takes them in
    theirs, such as from easy to hard.
    """

    def train_examples(self) -> Sequence[Example]:
        """Return the examples to train on."""
        ...

    def eval_examples(self) -> Sequence[Example]:
        """Return held-out examples, possibly none."""
        ...

    def score(self, rollouts: Sequence[Rollout]) -> Sequence[Score]:
        """Return one score per rollout, in order: a list, tuple, array, tensor or generator.

        A score is a finite number or a mapping of named components. The reward of a mapping is its component `reward`, or
        the sum of all components if there is none. Components may differ between rollouts: one that is missing adds nothing.

        The rollouts are copies. `score` may write `metrics` (numbers by name; None where one is undefined), `info` and keys
        of its own, and nothing else.
        """
        ...
