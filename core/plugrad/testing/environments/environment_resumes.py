"""The promise about an environment's state: scores before a checkpoint and after it."""

from __future__ import annotations

from plugrad.host.environment import BoundEnvironment
from plugrad.host.plugin_state import keeps_state
from plugrad.testing.checks import NotApplicable, Promise
from plugrad.testing.environments.environment_trial import EnvironmentTrial, numbers_of
from plugrad.testing.numbers import Numbers
from plugrad.testing.state import check_resumes, remembers, resumes_promise


def _check_resumes(environment: EnvironmentTrial) -> str:
    shared = environment.environment
    if not keeps_state(environment.component, shared.environment) and not _remembers(environment, shared):
        raise NotApplicable("it keeps no state")
    return check_resumes(
        environment.component,
        lambda: environment.fresh(seed=0),
        lambda bound: bound.environment,
        lambda bound, step: _score(environment, bound, step),
    )


def _remembers(environment: EnvironmentTrial, shared: BoundEnvironment) -> bool:
    """Return whether scores change attributes, without another instance, which may be slow to create."""
    # Other checks may have ended with all attempts.
    environment.scores(environment.attempts[:1])
    return remembers(shared.environment, lambda: _score(environment, shared, 0))


def _score(environment: EnvironmentTrial, bound: BoundEnvironment, seed: int) -> Numbers:
    """Score all attempts, and return the rewards, their components and the metrics that it wrote."""
    rollouts = [attempt.rollout() for attempt in environment.attempts]
    environment.score(rollouts, seed, bound)
    numbers: dict[str, float] = {}
    for attempt, rollout in zip(environment.attempts, rollouts, strict=True):
        numbers.update(numbers_of(attempt.name, rollout))
        measured = rollout["metrics"].items()
        numbers.update({f"{attempt.name}, metric {name!r}": value for name, value in measured if value is not None})
    return numbers


RESUMES: Promise[EnvironmentTrial] = resumes_promise(_check_resumes)
