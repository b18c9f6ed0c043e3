"""The checks of an advantage. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `groups`: which rollouts are compared, and in which order.
- `rewards`: equal, shifted, scaled and NaN rewards.
- `advantage_values`: values that are finite, repeatable and determined by the inputs.
- `advantage_precision`: what is rounded to a narrower dtype.

`portable`, one level up, has the promises of every kind. `trial_groups` draws the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.advantages.advantage_precision import EXACT, advantage_rounding
from plugrad.testing.advantages.advantage_trial import AdvantageTrial
from plugrad.testing.advantages.advantage_values import DETERMINISTIC, FEWEST_ROLLOUTS, RUNS, VALUES
from plugrad.testing.advantages.groups import GROUPS
from plugrad.testing.advantages.rewards import REWARDS
from plugrad.testing.checks import Check, Promise, built_on, checks_of_promises
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.portable import PORTABLE
from plugrad.testing.precision import precision_promise

OF_COMPARISONS = (*GROUPS, *VALUES, *REWARDS, FEWEST_ROLLOUTS)
PRECISION = precision_promise(advantage_rounding, [promise for promise in OF_COMPARISONS if promise.name in EXACT])
FOUNDATIONS = (DETERMINISTIC, *built_on([DETERMINISTIC], [PRECISION]))
PROMISES: tuple[Promise[Any], ...] = (
    RUNS,
    *FOUNDATIONS,
    *built_on(FOUNDATIONS, OF_COMPARISONS),
    *PORTABLE,
)


def advantage_checks(
    advantage: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Iterator[Check]:
    """Yield a check of each promise of an advantage.

    Args:
        advantage: a name, `module:function`, `file.py:function`, or the function or class itself.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad itself does not rely on; advantages have no such checks.
        example: columns of the examples behind the trial's rollouts, beside those that every example has.

    Raises:
        PlugradError: it is not found, or does not take these options.
    """
    component = component_of(advantage, "advantage", options)
    yield from checks_of_promises(PROMISES, component, AdvantageTrial(component), example)
