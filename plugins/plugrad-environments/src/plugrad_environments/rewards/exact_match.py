"""The reward `exact_match`: the completion is the reference."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.dataclasses import dataclass

from plugrad import DataError, Rollout
from plugrad_environments.row_prompts import check_pattern


@dataclass(frozen=True, config={"extra": "forbid"})
class ExactMatch:
    """1 if the completion is the reference, else 0. Space around both does not count.

    Args:
        pattern: a regular expression: the first group of its last match in the completion, or the whole match, is compared.
        ignore_case: whether capitals do not count.
    """

    pattern: str | None = None
    ignore_case: bool = False

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check the pattern and that there is a reference."""
        if self.pattern is not None:
            check_pattern("exact_match.pattern", self.pattern)
        check_references("exact_match", examples)

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 or 0 for each rollout."""
        return [float(self._is_same(r["completion"], r["example"]["reference"])) for r in rollouts]

    def _is_same(self, completion: str, reference: str) -> bool:
        given = completion if self.pattern is None else last_match(self.pattern, completion)
        if given is None:
            return False
        return self._plain(given) == self._plain(reference)

    def _plain(self, text: str) -> str:
        return text.strip().casefold() if self.ignore_case else text.strip()


@dataclass(frozen=True, config={"extra": "forbid"})
class Pattern:
    """The reward `regex`: 1 if the pattern occurs in the completion, else 0.

    Args:
        pattern: the regular expression.
        whole: whether it must match the whole completion.
    """

    pattern: str
    whole: bool = False

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check the pattern."""
        check_pattern("regex.pattern", self.pattern)

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 or 0 for each rollout."""
        matches = re.fullmatch if self.whole else re.search
        return [float(bool(matches(self.pattern, r["completion"], flags=re.DOTALL))) for r in rollouts]


def last_match(pattern: str, text: str) -> str | None:
    """Return the first group of the last match, or the whole match where there is no group."""
    found = None
    for found in re.finditer(pattern, text, flags=re.DOTALL):  # noqa: B007 - the last one is used
        pass
    return None if found is None else found[1 if found.re.groups else 0]


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
