"""TOPR: bad samples fade as the policy leaves them, good ones keep their whole weight (arXiv:2503.14286)."""

from __future__ import annotations

from typing import Literal

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, loss
from plugrad_policy.losses.ratios import sequence_sum


@loss(reduction="sequence_sum", policy_gradient=True)
def topr(inputs: BatchLossInputs, level: Literal["sequence", "token"] = "sequence") -> LossOutputs:
    """-sg(w) A log pi(t),  w = 1 where A >= 0, else min(W, 1),  W = product of pi / mu over the sequence.

    mu is the policy that sampled. A negative advantage without a ratio pushes the probability of a bad sample towards 0
    for ever, once nobody samples it any more. Here its weight falls with its probability. A good sample is learned from
    even if the policy finds it unlikely. In the paper, A is the reward, or the reward minus a constant: the advantage
    `constant` or one with a group's baseline.

    The ratio is the sequence's, as in the paper. Trinity-RFT's `topr` has each token's own: `level = "token"`.

    Args:
        level: whose ratio is the weight: the sequence's, or each token's.

    Reports:
        weight: the mean of w over counted tokens with a negative advantage.
    """
    policy, advantages, counted = inputs.trainer_logprobs, inputs.advantages, inputs.loss_mask
    log_ratio = (policy - inputs.inference_logprobs).detach()
    whole = sequence_sum(log_ratio, counted).expand_as(log_ratio) if level == "sequence" else log_ratio
    negative = advantages < 0
    weight = torch.where(negative, whole.clamp(max=0).exp(), 1.0)
    return LossOutputs(-weight * advantages * policy, {"weight": Mean.over(weight, counted & negative)})
