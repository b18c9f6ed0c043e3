"""A promise that every component of a kind makes, a check of it on one component, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar
from unittest import SkipTest

from plugrad.errors import InputsChanged, PluginError, PlugradError, did_you_mean
from plugrad.registry.bind import Component

S = TypeVar("S")

KIT_VERSION = "1"
"""Version of the set of promises. It rises when a promise is added or becomes stricter."""


class Broken(Exception):
    """Raised by a check when a promise does not hold. The message says what the check saw."""


class NotApplicable(SkipTest):
    """Raised when a promise does not apply to a component. pytest shows the reason of the skipped test."""


class CheckFailure(AssertionError):
    """A component breaks a promise. The message says what the check saw, why it matters, and the usual fix."""

    def __init__(self, check: Check, seen: str) -> None:
        promise = check.promise
        lines = [
            f"{check.owner} breaks the promise {promise.name!r}: {promise.statement}.",
            f"seen: {seen}",
            f"why:  {promise.why}",
            f"fix:  {promise.fix}",
        ]
        super().__init__("\n".join(lines))
        self.seen = seen
        """What the check saw."""


@dataclass(frozen=True)
class Promise(Generic[S]):
    """What every component of a kind promises, and the function that checks it."""

    name: str
    statement: str
    """What a component does, in the third person and without a full stop."""
    why: str
    """Why it matters."""
    fix: str
    """The usual fix."""
    run: Callable[[S], str]
    """Takes the component on trial. Returns what it saw, or raises Broken or NotApplicable."""


@dataclass(frozen=True)
class Check:
    """One promise of one component or engine. Call it to run the check."""

    promise: Promise[Any]
    owner: Component | str
    """The component, or the name of an engine."""
    subject: Any

    @property
    def name(self) -> str:
        """The promise's name."""
        return self.promise.name

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> str:
        """Run the check and return what it saw.

        Raises:
            CheckFailure: the component breaks the promise.
            NotApplicable: the promise does not apply to it.
        """
        try:
            return self.promise.run(self.subject)
        except Broken as broken:
            raise CheckFailure(self, str(broken)) from broken.__cause__
        except InputsChanged as error:
            raise NotApplicable("it changes its inputs: see inputs_unchanged") from error
        except PlugradError as error:
            raise CheckFailure(self, str(error)) from error


class Outcome(Enum):
    """The outcome of a check."""

    KEPT = "ok"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    EXPECTED = "failed, as declared"
    UNEXPECTED = "passed unexpectedly"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Result:
    """A check and its outcome."""

    check: Check
    outcome: Outcome
    seen: str

    @property
    def is_bad(self) -> bool:
        """Whether the component, or its declared failure, needs a fix."""
        return self.outcome in (Outcome.FAILED, Outcome.UNEXPECTED)


def run_checks(
    checks: Sequence[Check],
    expected_failures: Mapping[str, str] | None = None,
    watch: Callable[[Check], object] = lambda check: None,
) -> list[Result]:
    """Run each check. If the first one fails, the component cannot be called and the rest are not run.

    Args:
        checks: of one component.
        expected_failures: reasons by check name, for checks that are known to fail.
        watch: called with each check before it runs.

    Raises:
        PluginError: an expected failure names no check.
    """
    expected = expected_failures or {}
    reject_unknown(expected, checks)
    results: list[Result] = []
    for check in checks:
        if results and results[0].outcome is Outcome.FAILED:
            results.append(Result(check, Outcome.NOT_RUN, f"{results[0].check} failed"))
            continue
        watch(check)
        results.append(_try_check(check, expected.get(check.name)))
    return results


def reject_unknown(expected_failures: Iterable[str], checks: Iterable[Check]) -> None:
    """Raise PluginError if an expected failure names no check."""
    names = [check.name for check in checks]
    for name in expected_failures:
        if name not in names:
            raise PluginError(
                f"{name!r} is declared as an expected failure, but there is no such check.{did_you_mean(name, names)} "
                f"Checks: {', '.join(names)}."
            )


def _try_check(check: Check, expected: str | None) -> Result:
    try:
        seen = check()
    except CheckFailure as failure:
        if expected is not None:
            return Result(check, Outcome.EXPECTED, expected)
        return Result(check, Outcome.FAILED, failure.seen)
    except NotApplicable as reason:
        return Result(check, Outcome.NOT_APPLICABLE, str(reason))
    return Result(check, Outcome.KEPT if expected is None else Outcome.UNEXPECTED, seen)
