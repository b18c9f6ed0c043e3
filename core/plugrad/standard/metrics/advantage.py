"""The advantages that the losses saw."""

from __future__ import annotations

from plugrad.contracts.measures import Max, Mean, Measure
from plugrad.contracts.metric import MetricInputs


def advantage(inputs: MetricInputs) -> dict[str, Measure]:
    """The advantages of the counted tokens.

    Reports:
        mean: their mean.
        mean_abs: the mean of their absolute values.
        max_abs: the greatest absolute value.
        zero: the share that is exactly 0. These tokens teach a policy-gradient loss nothing.
    """
    size = inputs.advantages.abs() * inputs.loss_mask
    return {
        "mean": Mean.over(inputs.advantages, inputs.loss_mask),
        "mean_abs": Mean.over(size, inputs.loss_mask),
        "max_abs": Max(size.max()),
        "zero": Mean.over(inputs.advantages == 0, inputs.loss_mask),
    }
