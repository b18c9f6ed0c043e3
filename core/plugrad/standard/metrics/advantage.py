"""Statistics of the advantages that the losses use."""

from __future__ import annotations

from plugrad.contracts.measures import Max, Mean, Measure
from plugrad.contracts.metric import MetricInputs
from plugrad.formulas.residues import no_signal


def advantage(inputs: MetricInputs) -> dict[str, Measure]:
    """Statistics of the advantages of the counted tokens.

    Reports:
        mean: the mean.
        mean_abs: the mean of the absolute values.
        max_abs: the greatest absolute value.
        zero: the share of tokens whose advantage is 0, up to a rounding of 1e-9. They give a policy-gradient loss no signal.
    """
    size = inputs.advantages.abs() * inputs.loss_mask
    return {
        "mean": Mean.over(inputs.advantages, inputs.loss_mask),
        "mean_abs": Mean.over(size, inputs.loss_mask),
        "max_abs": Max(size.max()),
        "zero": Mean.over(no_signal(inputs.advantages), inputs.loss_mask),
    }
