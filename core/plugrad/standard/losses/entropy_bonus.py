"""An entropy bonus. Add it to another loss with a small weight."""

from __future__ import annotations

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import loss
from plugrad.contracts.measures import Mean


@loss(needs={"entropy"})
def entropy_bonus(inputs: BatchLossInputs) -> LossOutputs:
    """-H(pi) at each counted token, over the whole vocabulary, with gradient.

    Reports:
        entropy: the mean of H over counted tokens, in nats.
    """
    assert inputs.entropy is not None
    return LossOutputs(-inputs.entropy, {"entropy": Mean.over(inputs.entropy, inputs.loss_mask)})
