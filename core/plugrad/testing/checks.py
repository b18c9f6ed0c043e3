"""A promise that every component of a kind makes, a check of it on one component, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, Generic, TypeVar
from unittest import SkipTest

from plugrad.errors import InputsChanged, PluginError, PlugradError, did_you_mean
from plugrad.host.printed import held_back
from plugrad.registry.bind import Component
from plugrad.testing.explain import Explained, explained
from plugrad.testing.trial_examples import columns_of_examples

S = TypeVar("S")

KIT_VERSION = "6"
"""Version of the set of promises. It rises when a promise is added or becomes stricter."""

CAUSE = "_cause"


class Broken(Exception):
    """Raised by a check when a promise does not hold. The message says what the check saw.

    `why` and `fix` replace those of the promise, where the check knows better.
    """

    def __init__(self, seen: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(seen)
        self.why = why
        self.fix = fix


class NotApplicable(SkipTest):
    """Raised when a promise does not apply to a component. pytest shows the reason of the skipped test."""


class NotRun(SkipTest):
    """Raised when a check would only repeat what another one has found. pytest shows the reason of the skipped test."""


class CheckFailure(AssertionError):
    """A component breaks a promise. The message says what the check saw, why it matters, and the usual fix."""

    def __init__(self, check: Check, found: Explained) -> None:
        promise = check.promise
        lines = [f"{check.owner} breaks the promise {promise.name!r}: {promise.statement}."]
        parts = {"seen": found.seen, "why": found.why, "fix": found.fix}
        lines += [f"{word + ':':<5} {text}" for word, text in parts.items() if text]
        super().__init__("\n".join(lines))
        self.seen = found.seen
        """What the check saw."""
        self.why = found.why
        """Why it matters."""
        self.fix = found.fix
        """What to do."""


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
    after: tuple[str, ...] = ()
    """Promises without which this one cannot hold. If one of them is broken, this check is not run."""
    untested: str = ""
    """What a report says at its end if this check was not run or does not apply. Empty: nothing."""
    prepare: Callable[[], object] = lambda: None
    """Called before all checks of a component are run: starts what takes long and can go on meanwhile."""


def built_on(foundations: Iterable[Promise[Any]], promises: Iterable[Promise[Any]]) -> Iterator[Promise[Any]]:
    """Yield promises that cannot hold without the foundations: a component that draws numbers passes no comparison."""
    names = tuple(promise.name for promise in foundations)
    for promise in promises:
        yield replace(promise, after=(*names, *promise.after))


@dataclass(frozen=True)
class Check:
    """One promise of one component or engine. Call it to run the check."""

    promise: Promise[Any]
    owner: Component | str
    """The component, or the name of an engine."""
    subject: Any
    after: tuple[Check, ...] = ()
    """The checks of the promises without which this one cannot hold."""
    example: Mapping[str, Any] = field(default_factory=dict)
    """Columns of the trial's examples, beside those that every example has."""

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
            NotRun: the component breaks another promise, without which this one cannot hold.
        """
        if self._blocked_by:
            raise NotRun(f"needs {self._blocked_by}, which failed")
        self._note(None)
        try:
            with columns_of_examples(self.example):
                return self._run()
        except CheckFailure:
            self._note(self)
            raise

    @property
    def cause(self) -> Check | None:
        """The check whose failure decides this one: itself, one that it comes after, or none. It is run once for this."""
        if CAUSE not in vars(self):
            with suppress(CheckFailure, SkipTest):
                self()
        found: Check | None = vars(self).get(CAUSE)
        return found

    def _note(self, cause: Check | None) -> None:
        # A check is a value, so this is no field of it.
        vars(self)[CAUSE] = cause

    @cached_property
    def _blocked_by(self) -> Check | None:
        cause = next((check.cause for check in self.after if check.cause), None)
        if cause:
            self._note(cause)
        return cause

    def _run(self) -> str:
        try:
            return self.promise.run(self.subject)
        except Broken as broken:
            known = Explained(str(broken), broken.why or self.promise.why, broken.fix or self.promise.fix)
            raise CheckFailure(self, known) from broken.__cause__
        except InputsChanged as error:
            raise NotApplicable("it changes its inputs: see inputs_unchanged") from error
        except PlugradError as error:
            usual = Explained(str(error), self.promise.why, self.promise.fix)
            # Every other check calls the component under conditions of its own, which its promise explains.
            raise CheckFailure(self, explained(error, usual, is_first=not self.after)) from error


def checks_of_promises(
    promises: Iterable[Promise[Any]], owner: Component | str, subject: Any, example: Mapping[str, Any] | None = None
) -> Iterator[Check]:
    """Yield a check of each promise of one component. Every one but the first needs the first: the component can be called.

    A promise comes after those that it names in `after`.
    """
    known: dict[str, Check] = {}
    for promise in promises:
        first = [next(iter(known.values()))] if known else []
        after = [known[name] for name in promise.after if name in known]
        known[promise.name] = Check(promise, owner, subject, (*first, *after), example or {})
        yield known[promise.name]


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
    why: str = ""
    """Why a failure matters."""
    fix: str = ""
    """What to do about a failure."""

    @property
    def is_bad(self) -> bool:
        """Whether the component, or its declared failure, needs a fix."""
        return self.outcome in (Outcome.FAILED, Outcome.UNEXPECTED)


def run_checks(
    checks: Sequence[Check],
    expected_failures: Mapping[str, str] | None = None,
    watch: Callable[[Check], object] = lambda check: None,
    note: Callable[[Result], object] = lambda result: None,
) -> list[Result]:
    """Run each check. One whose outcome follows from another one's failure is not run.

    What the component prints is held back, and reported once.

    Args:
        checks: of one component.
        expected_failures: reasons by check name, for checks that are known to fail.
        watch: called with each check before it runs.
        note: called with each result as soon as it is known.

    Raises:
        PluginError: an expected failure names no check.
    """
    expected = expected_failures or {}
    reject_unknown(expected, checks)
    for check in checks:
        check.promise.prepare()
    results: list[Result] = []
    with held_back(str(checks[0].owner)) if checks else nullcontext():
        for check in checks:
            watch(check)
            results.append(_try_check(check, expected.get(check.name)))
            note(results[-1])
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
        return Result(check, Outcome.FAILED, failure.seen, failure.why, failure.fix)
    except NotRun as reason:
        return Result(check, Outcome.NOT_RUN, str(reason))
    except NotApplicable as reason:
        return Result(check, Outcome.NOT_APPLICABLE, str(reason))
    return Result(check, Outcome.KEPT if expected is None else Outcome.UNEXPECTED, seen)
