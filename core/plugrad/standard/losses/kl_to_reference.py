"""The KL divergence from policy to reference, on the sampled tokens (Schulman, "Approximating KL divergence", 2020)."""

from __future__ import annotations

from typing import Literal

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import loss
from plugrad.contracts.measures import Mean
from plugrad.formulas.ratios import k3


@loss(needs={"ref_logprobs"})
def kl_to_reference(inputs: BatchLossInputs, estimator: Literal["k1", "k2", "k3"] = "k3") -> LossOutputs:
    """With d = log pi_ref - log pi:  k1 = -d,  k2 = d^2 / 2,  k3 = exp(d) - d - 1.

    The gradient is that of the estimator itself, without the score-function term of the sampling distribution. So k1 only
    lowers log-probs, while the expected gradient of k2 is that of the KL.

    Args:
        estimator: the estimator to use.

    Reports:
        kl: the mean of the estimator over counted tokens, in nats.
    """
    assert inputs.ref_logprobs is not None
    d = inputs.ref_logprobs - inputs.trainer_logprobs
    per_token = {"k1": -d, "k2": d.square() / 2, "k3": k3(d)}[estimator]
    return LossOutputs(per_token, {"kl": Mean.over(per_token, inputs.loss_mask)})
