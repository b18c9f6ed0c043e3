"""The reward `math_verify`: the answer in the completion equals the reference, as the package math-verify sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import DataError, Rollout
from plugrad_environments.extras import needed
from plugrad_environments.rewards.exact_match import check_references
from plugrad_environments.rewards.patterns import last_match, within_time
from plugrad_environments.row_prompts import check_pattern
from plugrad_environments.side.side_process import NoAnswer, SideProcess
from plugrad_environments.wording import cut

WORKER = SideProcess("plugrad_environments.side.math_worker", "the reward 'math_verify'")


@dataclass(frozen=True, config={"extra": "forbid"})
class MathVerify:
    r"""1 if the answer in the completion equals the reference as mathematics: `1/2`, `0.5` and `\\\boxed{\\\frac{1}{2}}`.

    Args:
        pattern: a regular expression for the part of the completion with the answer, as for `exact_match`.
        timeout_s: the limit of seconds for reading an answer, and for comparing two. Too slow ones are worth 0.
    """

    pattern: str | None = None
    timeout_s: int = Field(default=5, ge=1, le=600)

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check that the package is there, and that references are answers."""
        needed("math_verify", extra="math", for_what="the reward 'math_verify'")
        if self.pattern is not None:
            check_pattern("math_verify.pattern", self.pattern)
        check_references("math_verify", examples)
        for example in examples[:1]:
            try:
                found = self._same(example["reference"], "0")
            except NoAnswer:
                found = None
            if found is None:
                raise DataError(
                    f"the reward 'math_verify' finds no answer in the reference {cut(example['reference'])} of example "
                    f"{example.get('example_id')!r}. Set reference_pattern to the part with the answer, such as '#### (.+)'."
                )

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 or 0 for each rollout. `math_verify_timeouts` is reported with it."""
        return [within_time("math_verify", rollout, self._score) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float:
        completion = rollout["completion"]
        given = completion if self.pattern is None else last_match(self.pattern, completion, self.timeout_s)
        if not given or not given.strip():
            return 0.0
        return float(bool(self._same(rollout["example"]["reference"], given)))

    def _same(self, reference: str, given: str) -> bool | None:
        # math-verify has a limit of its own for each of three parts.
        found: bool | None = WORKER.ask((reference, given, self.timeout_s), 3.0 * self.timeout_s + 1)
        return found
