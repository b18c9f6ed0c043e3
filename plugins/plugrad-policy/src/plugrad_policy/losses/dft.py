"""DFT: supervised fine-tuning in which each token weighs its own probability (arXiv:2508.05629)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, Mean, loss
from plugrad_policy.losses.probability import probability


@loss(policy_gradient=False)
def dft(inputs: BatchLossInputs) -> LossOutputs:
    """-sg(pi(t)) log pi(t). Advantages are not used.

    The gradient of cross-entropy is a policy gradient whose reward is 1 / pi for the token of the data: tokens that the
    policy finds unlikely get the greatest updates. The weight pi takes that out. It is TRL's `loss_type = "dft"` of
    supervised fine-tuning, and Trinity-RFT's `sft_is`.

    Reports:
        nll: the mean of -log pi over counted tokens, in nats.
        probability: the mean of pi over counted tokens.
    """
    nll, weight = -inputs.trainer_logprobs, probability(inputs.trainer_logprobs)
    metrics = {"nll": Mean.over(nll, inputs.loss_mask), "probability": Mean.over(weight, inputs.loss_mask)}
    return LossOutputs(weight * nll, metrics)
