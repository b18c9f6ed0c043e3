"""MOPD: on-policy distillation as a policy gradient (MiMo-V2-Flash, arXiv:2601.02780, eq. 7)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss

NotNegative = Annotated[float, Field(ge=0)]


@loss(needs={"teacher_logprobs"}, reduction="sequence")
def opd(
    inputs: BatchLossInputs, low: NotNegative = 0.5, high: NotNegative = 5.0, reward_weight: NotNegative = 0.0
) -> LossOutputs:
    """-w_t sg(log pi_T(t) - log pi(t) + reward_weight A_t) log pi(t),  w_t = sg(pi / mu) from low to high, else 0.

    The mean of log pi_T - log pi over what the policy samples is -KL(pi || pi_T), token by token: nothing is carried back
    from later tokens. Several teachers are `[model.teachers.NAME]`. The advantage of the same name does without the weights,
    for any loss.

    Args:
        low: weights below it are dropped. The paper names no number; this is IcePop's.
        high: weights above it are dropped; IcePop's.
        reward_weight: the paper's alpha, of the run's own advantages.

    Reports:
        gap: the mean of log pi_T - log pi over counted tokens, in nats. Its negative estimates the KL divergence.
        dropped: the share of counted tokens with w = 0.
    """
    assert inputs.teacher_logprobs is not None
    policy, counted = inputs.trainer_logprobs, inputs.loss_mask
    gap = (inputs.teacher_logprobs - policy).detach()
    ratio = finite_exp(policy - inputs.inference_logprobs).detach()
    kept = (ratio >= low) & (ratio <= high)
    pull = torch.where(kept, ratio, 0.0) * (gap + reward_weight * inputs.advantages)
    metrics = {"gap": Mean.over(gap, counted), "dropped": Mean.over(~kept, counted)}
    return LossOutputs(-pull * policy, metrics)
