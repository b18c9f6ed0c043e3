"""The policy's entropy."""

from __future__ import annotations

from plugrad.contracts.markers import metric
from plugrad.contracts.measures import Mean, Measure
from plugrad.contracts.metric import MetricInputs


@metric(needs={"entropy"})
def entropy(inputs: MetricInputs) -> dict[str, Measure]:
    """The entropy of the policy over the whole vocabulary, at the sampling temperature.

    Reports:
        mean: the mean over counted tokens, in nats.
    """
    assert inputs.entropy is not None
    return {"mean": Mean.over(inputs.entropy, inputs.loss_mask)}
