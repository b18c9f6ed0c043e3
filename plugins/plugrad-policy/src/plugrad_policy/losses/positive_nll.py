"""VAPO's positive-example language-model loss: imitate the correct answers (arXiv:2504.05118)."""

from __future__ import annotations

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, loss
from plugrad_policy.losses.outcomes import correct


@loss(needs={"reward"}, policy_gradient=False, whole_batch=True)
def positive_nll(inputs: BatchLossInputs, above: float = 0.5) -> LossOutputs:
    """-T / T+ log pi(t) at the T+ tokens of correct completions, and 0 at others, of the batch's T counted tokens.

    Add it to a policy gradient; the paper's weight is 0.1. Where correct answers are rare, each is a demonstration of
    which more should be made than one policy-gradient step.

    With the reduction `token`, the loss is the paper's mean over the tokens of the correct completions alone: the factor
    T / T+ takes the place of the denominator. Both count the whole batch (`whole_batch`). A batch without a correct
    completion has no loss.

    Args:
        above: a completion with a greater reward is correct. 0.5 fits rewards of 0 and 1 as well as of -1 and 1.

    Reports:
        positive_nll: the mean of -log pi over the tokens of correct completions, in nats.
        is_positive: the share of counted tokens in correct completions.
    """
    nll, counted = -inputs.trainer_logprobs, inputs.loss_mask
    positive = counted & correct(inputs, above)
    factor = counted.sum() / positive.sum().clamp(min=1)
    metrics = {"positive_nll": Mean.over(nll, positive), "is_positive": Mean.over(positive, counted)}
    return LossOutputs(torch.where(positive, factor * nll, 0.0), metrics)
