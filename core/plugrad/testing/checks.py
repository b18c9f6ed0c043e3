"""A promise that every component of a kind makes, a check of it on one component, and what came of it."""

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
"""Of the set of promises; it rises when one is added or asks for more."""


class Broken(Exception):
    """A trial saw that a promise is not kept; the message says what it saw."""


class NotApplicable(SkipTest):
    """A promise does not concern this component; pytest shows the reason as that of a skipped test."""


class CheckFailure(AssertionError):
    """A component does not keep a promise. The message says what was seen, why it matters, and the usual fix."""

    def __init__(self, check: Check, seen: str) -> None:
        promise = check.promise
        lines = [
            f"{check.owner} does not keep {promise.name!r}: {promise.statement}.",
            f"seen: {seen}",
            f"why:  {promise.why}",
            f"fix:  {promise.fix}",
        ]
        super().__init__("\n".join(lines))
        self.seen = seen
        """What was seen."""


@dataclass(frozen=True)
class Promise(Generic[S]):
    """What every component of a kind promises, and how it is tried."""

    name: str
    statement: str
    """In the third person, without a full stop."""
    why: str
    """Why it matters."""
    fix: str
    """The usual one."""
    run: Callable[[S], str]
    """Takes what is tried; returns what it saw, or raises Broken or NotApplicable."""


@dataclass(frozen=True)
class Check:
    """One promise of one component or engine. Call it to try."""

    promise: Promise[Any]
    owner: Component | str
    """Whose promise it is: a component, or an engine by its name."""
    subject: Any

    @property
    def name(self) -> str:
        """The promise's name."""
        return self.promise.name

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> str:
        """Try it, and return what was seen.

        Raises:
            CheckFailure: the component does not keep the promise.
            NotApplicable: the promise does not concern it.
        """
        try:
            return self.promise.run(self.subject)
        except Broken as broken:
            raise CheckFailure(self, str(broken)) from broken.__cause__
        except InputsChanged as error:
            raise NotApplicable("what it does to its inputs would be seen as something else") from error
        except PlugradError as error:
            raise CheckFailure(self, str(error)) from error


class Outcome(Enum):
    """What came of a check."""

    KEPT = "ok"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    EXPECTED = "failed, as declared"
    UNEXPECTED = "kept, and declared to fail"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Result:
    """A check and what came of it."""

    check: Check
    outcome: Outcome
    seen: str

    @property
    def is_bad(self) -> bool:
        """Whether the component has to be mended, or what was declared of it."""
        return self.outcome in (Outcome.FAILED, Outcome.UNEXPECTED)


def run_checks(
    checks: Sequence[Check],
    expected_failures: Mapping[str, str] | None = None,
    watch: Callable[[Check], object] = lambda check: None,
) -> list[Result]:
    """Try each check. Where the first one fails, the component cannot be called, and the others are not tried.

    Args:
        checks: of one component.
        expected_failures: reasons, by the names of the checks that are declared to fail.
        watch: is told of each check before it is tried.

    Raises:
        PluginError: no check has a name that was declared.
    """
    expected = expected_failures or {}
    reject_unknown(expected, checks)
    results: list[Result] = []
    for check in checks:
        if results and results[0].outcome is Outcome.FAILED:
            results.append(Result(check, Outcome.NOT_TRIED, f"{results[0].check} comes first"))
            continue
        watch(check)
        results.append(_try_check(check, expected.get(check.name)))
    return results


def reject_unknown(expected_failures: Iterable[str], checks: Iterable[Check]) -> None:
    """Raise PluginError if a declared failure is of no check."""
    names = [check.name for check in checks]
    for name in expected_failures:
        if name not in names:
            raise PluginError(
                f"a failure of {name!r} is declared, and there is no such check.{did_you_mean(name, names)} "
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
