"""Cross-entropy: supervised fine-tuning on the counted tokens."""

from __future__ import annotations

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import loss
from plugrad.contracts.measures import Mean


@loss(policy_gradient=False)
def cross_entropy(inputs: BatchLossInputs) -> LossOutputs:
    """-log pi(t). Advantages are not used.

    Reports:
        nll: the mean of -log pi over counted tokens, in nats.
    """
    nll = -inputs.trainer_logprobs
    return LossOutputs(nll, {"nll": Mean.over(nll, inputs.loss_mask)})
