"""What a loss rounds: values, gradients and metrics that do not follow float64 inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from plugrad.contracts.needs import LOSS_NEEDS
from plugrad.testing.losses.loss_trial import LossTrial, numbers_of
from plugrad.testing.losses.trial_micro_batches import draw_micro_batch
from plugrad.testing.numbers import Numbers
from plugrad.testing.precision import Rounding, moved_by, rounding_of

EXACT = frozenset(
    {
        "masked_slots",
        "padding",
        "permutation",
        "micro_batches",
        "emptied_rows",
        "state",
        "after_update",
        "row_order",
        "sums_tokens",
        "gradcheck",
        "metrics_add_up",
    }
)
"""The checks that compare in float64."""


def loss_rounding(loss: LossTrial) -> Rounding | None:
    """Return what a loss rounds to a narrower dtype than float64, or None."""
    inputs = draw_micro_batch()
    unread = LOSS_NEEDS - loss.component.needs

    def moved(field: str, share: float) -> Numbers:
        value: dict[str, Any] = {field: moved_by(getattr(inputs, field), share)}
        other = replace(inputs, **value)
        metrics = {f"the metric {name!r}": measure.value() for name, measure in loss.measures(other).items()}
        return {**numbers_of(loss.rows(other)), **metrics}

    fields = [name for name, value in vars(inputs).items() if isinstance(value, Tensor) and value.is_floating_point()]
    return rounding_of([name for name in fields if name not in unread], moved)
