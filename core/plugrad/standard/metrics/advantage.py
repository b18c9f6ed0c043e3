"""The advantages that the losses saw."""

from __future__ import annotations

from plugrad.contracts.measures import Max, Mean, Measure
from plugrad.contracts.metric import MetricInputs


def advantage(inputs: MetricInputs) -> dict[str, Measure]:
    """Mean, mean size and greatest size over counted tokens, and the share of tokens without any."""
    size = inputs.advantages.abs() * inputs.loss_mask
    return {
        "mean": Mean.over(inputs.advantages, inputs.loss_mask),
        "mean_abs": Mean.over(size, inputs.loss_mask),
        "max_abs": Max(size.max()),
        "zero": Mean.over(inputs.advantages == 0, inputs.loss_mask),
    }
