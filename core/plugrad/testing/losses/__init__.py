"""The checks of a loss. To add one, write a promise in one of these modules; `PROMISES` collects them.

- `cuts`: micro-batches, padding, the order of sequences, and masked slots.
- `emptied`: sequences that an extension emptied.
- `loss_values`: values that are finite, repeatable and determined by the inputs.
- `between_updates`: what it remembers from call to call and from update to update.
- `gradients`: sign, zeros, and the derivative of the value.
- `numerics`: bfloat16 and large ratios.
- `metrics`: the metrics that a loss returns.
- `two_ranks`: two processes take the same step as one.

`portable`, one level up, has the promises of every kind. `trial_micro_batches` draws the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.losses.between_updates import STATE
from plugrad.testing.losses.cuts import CUT, STRICT
from plugrad.testing.losses.emptied import EMPTIED
from plugrad.testing.losses.gradients import GRADIENTS
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.loss_values import RUNS, VALUES
from plugrad.testing.losses.metrics import METRICS
from plugrad.testing.losses.numerics import NUMERICS
from plugrad.testing.losses.two_ranks import RANKS
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (
    RUNS,
    *CUT,
    *EMPTIED,
    *VALUES,
    *STATE,
    *GRADIENTS,
    *NUMERICS,
    *METRICS,
    *PORTABLE,
    *RANKS,
)


def loss_checks(loss: ComponentLike, *, options: Mapping[str, Any] | None = None, strict: bool = False) -> Iterator[Check]:
    """Yield a check of each promise of a loss.

    Args:
        loss: a name, `module:function`, `file.py:function`, or the function or class itself.
        options: its options; the rest keep their defaults.
        strict: also check what plugrad does not rely on, but other training loops may.

    Raises:
        PlugradError: it is not found, or does not take these options.
    """
    component = component_of(loss, "loss", options)
    trial = LossTrial(component)
    for promise in (*PROMISES, *(STRICT if strict else ())):
        yield Check(promise, component, trial)
