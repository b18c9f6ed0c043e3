"""What every loss promises, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from plugrad.testing.checks import Check, Promise
from plugrad.testing.components import ComponentLike, component_of
from plugrad.testing.losses.cuts import CUT, STRICT
from plugrad.testing.losses.emptied import EMPTIED
from plugrad.testing.losses.gradients import GRADIENTS
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.loss_values import RUNS, VALUES
from plugrad.testing.losses.metrics import METRICS
from plugrad.testing.losses.numerics import NUMERICS
from plugrad.testing.losses.ranks import RANKS
from plugrad.testing.portable import PORTABLE

PROMISES: tuple[Promise[Any], ...] = (
    RUNS,
    *CUT,
    *EMPTIED,
    *VALUES,
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
        options: its options; the others take their defaults.
        strict: ask also for what plugrad does not rely on, and other training loops may.

    Raises:
        PlugradError: it cannot be found, or does not take these options.
    """
    component = component_of(loss, "loss", options)
    trial = LossTrial(component)
    for promise in (*PROMISES, *(STRICT if strict else ())):
        yield Check(promise, component, trial)
