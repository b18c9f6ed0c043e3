"""Made-up replies for the supervised runs games.toml and calculations.toml."""

import random
from collections.abc import Sequence
from typing import Any

from calculator import calculations as made_calculations
from guessing import games as made_games


class Conversations:
    """Replies in two tasks, some of them good.

    Args:
        games: about how many replies of guessing.py.
        calculations: about how many replies of calculator.py.
    """

    def __init__(self, games: int = 4000, calculations: int = 8000) -> None:
        draw = random.Random(0)
        self._replies = [*made_games(draw, games), *made_calculations(draw, calculations)]

    def train_examples(self) -> Sequence[dict[str, Any]]:
        """Return the replies, each with the messages before it."""
        return self._replies

    def eval_examples(self) -> Sequence[dict[str, Any]]:
        """Return none: run files name the tasks themselves as held-out sets."""
        return []

    def score(self, rollouts: Sequence[Any]) -> list[float]:
        """Return whether a completion is the made-up reply."""
        return [float(rollout["completion"] == rollout["example"]["reference"]) for rollout in rollouts]
