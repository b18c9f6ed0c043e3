"""Regular expressions of rewards, the reward `regex` among them. A few take for ever on some texts, so there is a limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import Rollout
from plugrad_environments.row_prompts import check_pattern
from plugrad_environments.side.side_process import NoAnswer, SideProcess

TEXTS = SideProcess("plugrad_environments.side.text_worker", "the rewards with patterns and schemas")


@dataclass(frozen=True, config={"extra": "forbid"})
class Pattern:
    """The reward `regex`: 1 if the pattern occurs in the completion, else 0.

    Args:
        pattern: the regular expression.
        whole: whether it must match the whole completion.
        timeout_s: the limit of seconds for one completion. One that takes longer is worth 0.
    """

    pattern: str
    whole: bool = False
    timeout_s: float = Field(default=5.0, gt=0, le=600)

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check the pattern."""
        check_pattern("regex.pattern", self.pattern)

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 or 0 for each rollout. `regex_timeouts` is reported with it."""
        return [within_time("regex", rollout, self._score) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float:
        return float(TEXTS.ask(("occurs", self.pattern, rollout["completion"], self.whole), self.timeout_s))


def last_match(pattern: str, text: str, timeout_s: float) -> str | None:
    """Return the first group of the last match, or the whole match where there is no group.

    Raises:
        NoAnswer: it takes longer than `timeout_s`.
    """
    found: str | None = TEXTS.ask(("last_match", pattern, text), timeout_s)
    return found


def within_time(name: str, rollout: Rollout, score: Callable[[Rollout], float]) -> float:
    """Return the score of a rollout, or 0 where it takes too long, which is reported."""
    metric = f"{name}_timeouts"
    rollout["metrics"][metric] = 0.0
    try:
        return score(rollout)
    except NoAnswer:
        rollout["metrics"][metric] = 1.0
        return 0.0
