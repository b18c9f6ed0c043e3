"""What a reward is here: a number for each completion, from its text and the columns of its example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from plugrad import Rollout

Value = float | Mapping[str, float] | None


class Reward(Protocol):
    """One reward of a run, with its options."""

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check that the examples have what the reward needs.

        Raises:
            DataError: they lack a column, or one holds what the reward cannot use.
            PluginError: a package that it needs is not installed.
        """
        ...

    def scores(self, rollouts: Sequence[Rollout]) -> Sequence[Value]:
        """Return a number, named components or None (no reward) for each rollout."""
        ...
