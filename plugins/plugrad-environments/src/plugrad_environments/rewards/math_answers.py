"""The reward `math_verify`: the answer in the completion equals the reference, as the package math-verify sees it."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import ContractError, DataError, Rollout
from plugrad_environments.extras import needed
from plugrad_environments.rewards.exact_match import check_references, last_match
from plugrad_environments.row_prompts import check_pattern
from plugrad_environments.wording import cut

START_S = 120.0
"""The limit for the worker's first answer: it imports sympy."""


class Worker:
    """A process that compares answers. Where it hangs, it is ended, and the next one starts.

    math-verify's own limits are signals, which reach neither other threads than the main one nor the inside of C code.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()

    def same(self, reference: str, completion: str, timeout_s: int) -> bool | None:
        """Return whether two answers are the same; None where the reference is no answer.

        Raises:
            TimeoutError: it took too long.
            ContractError: the process does not start.
        """
        with self._lock:
            limit = 3.0 * timeout_s + 1
            if self._process is None or self._process.poll() is not None:
                limit += START_S
                self._process = _started()
            return self._answer(self._process, json.dumps([reference, completion, timeout_s]), limit)

    def _answer(self, process: subprocess.Popen[str], question: str, limit: float) -> bool | None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                line = process.stdout.readline() if selector.select(limit) else None
        except OSError:
            line = ""
        if line:
            found: bool | None = json.loads(line)
            return found
        self._end(process)
        if line is None or limit < START_S:
            raise TimeoutError
        raise ContractError(
            "the process of the reward 'math_verify' ended before its first answer: `python -c 'import math_verify'`."
        )

    def _end(self, process: subprocess.Popen[str]) -> None:
        self._process = None
        process.kill()
        process.communicate()


WORKER = Worker()


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
                found = WORKER.same(example["reference"], "0", self.timeout_s)
            except TimeoutError:
                found = None
            if found is None:
                raise DataError(
                    f"the reward 'math_verify' finds no answer in the reference {cut(example['reference'])} of example "
                    f"{example.get('example_id')!r}. Set reference_pattern to the part with the answer, such as '#### (.+)'."
                )

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return 1 or 0 for each rollout. `math_verify_timeouts` is reported with it."""
        return [self._score(rollout) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float:
        completion = rollout["completion"]
        given = completion if self.pattern is None else last_match(self.pattern, completion)
        rollout["metrics"]["math_verify_timeouts"] = 0.0
        if not given or not given.strip():
            return 0.0
        try:
            return float(bool(WORKER.same(rollout["example"]["reference"], given, self.timeout_s)))
        except TimeoutError:
            rollout["metrics"]["math_verify_timeouts"] = 1.0
            return 0.0


def _started() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "plugrad_environments.rewards.math_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        # Ctrl-C is the trainer's.
        start_new_session=True,
    )
