"""An entropy bonus for the tokens at which the policy hesitates, those of "Beyond the 80/20 rule" (arXiv:2506.01939)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, loss
from plugrad_policy.losses.top_entropy_quantile import lower_bound

Quantile = Annotated[float, Field(ge=0, lt=1)]


@loss(needs={"entropy"}, cut_dependent=True)
def entropy_quantile_bonus(inputs: BatchLossInputs, quantile: Quantile = 0.8) -> LossOutputs:
    """-M H(pi) at each counted token,  M = 1 where H is not below its `quantile` over the micro-batch, else 0.

    To be added to a policy gradient with a small weight. Core's `entropy_bonus` raises the entropy of every token, also of
    those that have only one continuation; this one raises it where there is a choice. The paper learns from these tokens
    alone, which is `top_entropy_quantile`; a bonus on them is not in it.

    The bound is of the micro-batch (`cut_dependent`). A token below it contributes zero and stays in the denominator.

    Args:
        quantile: the share of the counted tokens that gets no bonus. 0.8 leaves the paper's 20%; 0 is `entropy_bonus`.

    Reports:
        entropy: the mean of H over counted tokens, in nats.
        raised_entropy: the mean of H over those with a bonus, in nats.
        entropy_bound: the mean over sequences of the entropy from which a token gets it, in nats.
        is_raised: the share of counted tokens that get it.
    """
    assert inputs.entropy is not None
    entropy, counted = inputs.entropy, inputs.loss_mask
    bound = lower_bound(entropy.detach(), counted, 1 - quantile)
    raised = entropy.detach() >= bound
    metrics: dict[str, Tensor | Mean] = {
        "entropy": Mean.over(entropy, counted),
        "raised_entropy": Mean.over(entropy, counted & raised),
        "entropy_bound": bound,
        "is_raised": Mean.over(raised, counted),
    }
    return LossOutputs(torch.where(raised, -entropy, 0.0), metrics)
