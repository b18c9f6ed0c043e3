"""The checks of an environment. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `examples`: the examples and what is held out.
- `scores`: the scores of completions, or of plays with a policy that writes them.
- `plays`: how an environment plays.
- `environment_resumes`: what it remembers from score to score.

`portable`, one level up, has the promises of every kind. `attempts` has the completions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise, checks_of_promises
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.environments.environment_resumes import RESUMES
from plugrad.testing.environments.environment_trial import EnvironmentTrial
from plugrad.testing.environments.examples import EXAMPLES, RUNS
from plugrad.testing.environments.plays import PLAYS
from plugrad.testing.environments.scores import SCORES
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (RUNS, *EXAMPLES, *SCORES, *PLAYS, RESUMES, *PORTABLE)


def environment_checks(
    environment: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Iterator[Check]:
    """Yield a check of each promise of an environment.

    The checks create the environment three times, and three times more if it keeps state. If that is slow, pass options
    that load fewer examples.

    Args:
        environment: a name, `module:class`, `file.py:class`, or the class itself.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad itself does not rely on; environments have no such checks.
        example: not used: an environment has examples of its own.

    Raises:
        PlugradError: it is not found, or does not take these options.
    """
    component = component_of(environment, "environment", options)
    yield from checks_of_promises(PROMISES, component, EnvironmentTrial(component))
