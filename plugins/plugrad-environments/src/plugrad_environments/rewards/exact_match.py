"""The reward `exact_match`: the completion is the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import DataError, Rollout
from plugrad_environments.rewards.patterns import last_match, within_time
from plugrad_environments.row_prompts import check_pattern


@dataclass(frozen=True, config={"extra": "forbid"})
class ExactMatch:
    """1 if the completion is the reference, else 0. Space around both does not count.

    Args:
        pattern: a regular expression: the first group of its last match in the completion, or the whole match, is compared.
        ignore_case: whether capitals do not count.
        timeout_s: the limit of seconds for the pattern. A completion that takes longer is worth 0.
    """

    pattern: str | None = None
    ignore_case: bool = False
    timeout_s: float = Field(default=5.0, gt=0, le=600)

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check the pattern and that there is a reference."""
        if self.pattern is not None:
            check_pattern("exact_match.pattern", self.pattern)
        check_references("exact_match", examples)

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 or 0 for each rollout. With a pattern, `exact_match_timeouts` is reported."""
        if self.pattern is None:
            return [self._worth(r["completion"], r) for r in rollouts]
        return [within_time("exact_match", rollout, self._score) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float:
        assert self.pattern is not None
        return self._worth(last_match(self.pattern, rollout["completion"], self.timeout_s), rollout)

    def _worth(self, given: str | None, rollout: Rollout) -> float:
        return float(given is not None and self._plain(given) == self._plain(rollout["example"]["reference"]))

    def _plain(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


def check_references(name: str, examples: Sequence[Mapping[str, Any]]) -> None:
    """Check that every example has a reference as text.

    Raises:
        DataError: one has none.
    """
    for example in examples:
        if not isinstance(example.get("reference"), str):
            columns = ", ".join(column for column in example if column not in ("example_id", "prompt"))
            raise DataError(
                f"the reward {name!r} compares with a reference, and example {example.get('example_id')!r} has none. "
                'Name its column: reference = "COLUMN" under [environment.kwargs]. There is '
                f"{columns or 'no column besides the prompt'}."
            )
