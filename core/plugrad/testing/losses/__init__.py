"""The checks of a loss. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `cuts`: micro-batches, padding, the order of sequences, and masked slots.
- `mixing`: losses that see the whole batch.
- `emptied`: sequences that an extension emptied.
- `loss_values`: values that are finite, repeatable and determined by the inputs.
- `loss_precision`: what is rounded to a narrower dtype.
- `between_updates`: what it remembers from call to call and from update to update.
- `gradients`: sign, zeros, and the derivative of the value.
- `own_parameters_used`: parameters that a loss trains.
- `sums`: a sum over tokens, not a mean.
- `numerics`: 16-bit inputs, and policies that hardly differ.
- `far`: policies that are far apart, and tokens that are improbable.
- `metrics`: the metrics that a loss returns.
- `two_ranks`: two processes take the same step as one.

`portable`, one level up, has the promises of every kind. `trial_micro_batches` draws the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise, built_on, checks_of_promises
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.losses.between_updates import STATE
from plugrad.testing.losses.cuts import CUT, STRICT
from plugrad.testing.losses.emptied import EMPTIED
from plugrad.testing.losses.far import FAR_OFF
from plugrad.testing.losses.gradients import GRADIENTS
from plugrad.testing.losses.loss_precision import EXACT, loss_rounding
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.loss_values import DETERMINISTIC, RUNS, VALUES
from plugrad.testing.losses.metrics import METRICS
from plugrad.testing.losses.mixing import MIXING
from plugrad.testing.losses.numerics import NUMERICS
from plugrad.testing.losses.own_parameters_used import OWN_PARAMETERS
from plugrad.testing.losses.sums import SUMS
from plugrad.testing.losses.two_ranks import RANKS
from plugrad.testing.portable import PORTABLE
from plugrad.testing.precision import precision_promise

OF_COMPARISONS = (
    *CUT,
    *EMPTIED,
    *VALUES,
    *STATE,
    *MIXING,
    *OWN_PARAMETERS,
    *SUMS,
    *GRADIENTS,
    *NUMERICS,
    *FAR_OFF,
    *METRICS,
)
PRECISION = precision_promise(loss_rounding, [promise for promise in OF_COMPARISONS if promise.name in EXACT])
FOUNDATIONS = (DETERMINISTIC, *built_on([DETERMINISTIC], [PRECISION]))
PROMISES: tuple[Promise[Any], ...] = (
    RUNS,
    *FOUNDATIONS,
    *built_on(FOUNDATIONS, OF_COMPARISONS),
    *PORTABLE,
    *built_on(FOUNDATIONS, RANKS),
)


def loss_checks(
    loss: ComponentLike,
    *,
    options: Mapping[str, Any] | None = None,
    strict: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Iterator[Check]:
    """Yield a check of each promise of a loss.

    Args:
        loss: a name, `module:function`, `file.py:function`, or the function or class itself.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad does not rely on, but other training loops may.
        example: columns of the examples behind the trial's rollouts, beside those that every example has.

    Raises:
        PlugradError: it is not found, or does not take these options.
    """
    component = component_of(loss, "loss", options)
    yield from checks_of_promises(
        (*PROMISES, *(built_on(FOUNDATIONS, STRICT) if strict else ())), component, LossTrial(component), example
    )
