"""An entropy bonus for high-entropy tokens, those of "Beyond the 80/20 rule" (arXiv:2506.01939)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, loss
from plugrad_policy.losses.ties import lower_bound, reaches

Quantile = Annotated[float, Field(ge=0, lt=1)]


@loss(needs={"entropy"}, whole_batch=True)
def entropy_quantile_bonus(inputs: BatchLossInputs, quantile: Quantile = 0.8) -> LossOutputs:
    """-M H(pi) at each counted token,  M = 1 where H is not below its `quantile` over the batch, else 0.

    Add it to a policy gradient with a small weight. Core's `entropy_bonus` raises the entropy of every token, even
    where only one continuation makes sense. This loss raises it only where the policy has a choice. The paper trains
    on these tokens alone, which is `top_entropy_quantile`. It does not propose a bonus on them.

    The quantile is that of the counted tokens of the whole batch (`whole_batch`). A token below it contributes zero and
    stays in the denominator.

    Args:
        quantile: the share of counted tokens without a bonus. 0.8 leaves the paper's 20%; 0 is `entropy_bonus`.

    Reports:
        entropy: the mean of H over counted tokens, in nats.
        raised_entropy: the mean of H over tokens with a bonus, in nats.
        entropy_bound: the mean over sequences of the lowest entropy that earns a bonus, in nats.
        is_raised: the share of counted tokens with a bonus.
    """
    assert inputs.entropy is not None
    entropy, counted = at_least_float32(inputs.entropy), inputs.loss_mask
    bound = lower_bound(entropy.detach(), counted, 1 - quantile)
    raised = reaches(entropy.detach(), bound)
    metrics: dict[str, Tensor | Mean] = {
        "entropy": Mean.over(entropy, counted),
        "raised_entropy": Mean.over(entropy, counted & raised),
        "entropy_bound": bound,
        "is_raised": Mean.over(raised, counted),
    }
    return LossOutputs(torch.where(raised, -entropy, 0.0), metrics)
