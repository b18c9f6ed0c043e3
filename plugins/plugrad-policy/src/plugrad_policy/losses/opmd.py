"""OPMD: online policy mirror descent with the regulariser in the step size (Trinity-RFT, arXiv:2505.17826)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, loss


@loss(policy_gradient=True)
def opmd(inputs: BatchLossInputs, tau: Annotated[float, Field(ge=0)] = 1.0) -> LossOutputs:
    """-1 / (1 + tau) A log pi(t).

    The simplest form of mirror descent: the pull back to the policy of the step is a smaller step, and nothing is corrected
    for older samples. The report's advantage is the reward minus its group's mean, core's `group_mean`. `dro` has the pull
    itself.

    Args:
        tau: the strength of the regulariser. 0 is `reinforce`. The default is Trinity-RFT's.

    Reports:
        nll: the mean of -log pi over counted tokens, in nats.
    """
    nll = -inputs.trainer_logprobs
    return LossOutputs(inputs.advantages * nll / (1 + tau), {"nll": Mean.over(nll, inputs.loss_mask)})
