"""What every environment promises, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.environments.environment_trial import EnvironmentTrial
from plugrad.testing.environments.examples import EXAMPLES, RUNS
from plugrad.testing.environments.scores import SCORES
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (RUNS, *EXAMPLES, *SCORES, *PORTABLE)


def environment_checks(
    environment: ComponentLike, *, options: Mapping[str, Any] | None = None, strict: bool = False
) -> Iterator[Check]:
    """Yield a check of each promise of an environment. It is made three times: where that takes long, let it read fewer.

    Args:
        environment: a name, `module:class`, `file.py:class`, or the class itself.
        options: its options; the others take their defaults.
        strict: ask also for what plugrad does not rely on; of an environment there is nothing more.

    Raises:
        PlugradError: it cannot be found, or does not take these options.
    """
    component = component_of(environment, "environment", options)
    trial = EnvironmentTrial(component)
    for promise in PROMISES:
        yield Check(promise, component, trial)
