"""What every advantage promises, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.advantages.advantage_trial import AdvantageTrial
from plugrad.testing.advantages.advantage_values import RUNS, VALUES
from plugrad.testing.advantages.groups import GROUPS
from plugrad.testing.advantages.rewards import REWARDS
from plugrad.testing.checks import Check, Promise
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (RUNS, *GROUPS, *REWARDS, *VALUES, *PORTABLE)


def advantage_checks(
    advantage: ComponentLike, *, options: Mapping[str, Any] | None = None, strict: bool = False
) -> Iterator[Check]:
    """Yield a check of each promise of an advantage.

    Args:
        advantage: a name, `module:function`, `file.py:function`, or the function or class itself.
        options: its options; the others take their defaults.
        strict: ask also for what plugrad does not rely on; of an advantage there is nothing more.

    Raises:
        PlugradError: it cannot be found, or does not take these options.
    """
    component = component_of(advantage, "advantage", options)
    trial = AdvantageTrial(component)
    for promise in PROMISES:
        yield Check(promise, component, trial)
