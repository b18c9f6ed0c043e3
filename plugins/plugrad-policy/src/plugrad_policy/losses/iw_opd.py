"""IW-OPD: on-policy distillation that weighs the tokens before teacher and policy part more (arXiv:2606.22600)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, loss
from plugrad_policy.losses.ratios import sequence_sum

SMALLEST_TOTAL = 1e-8
"""A sequence in which teacher and policy agree everywhere has no tokens before they part."""


@loss(needs={"teacher_logprobs"}, policy_gradient=False)
def iw_opd(inputs: BatchLossInputs, gamma: Annotated[float, Field(ge=0)] = 0.5) -> LossOutputs:
    """-g a log pi(t),  a = log pi_teacher - log mu,  g_t = 1 + gamma (1 - sum of |a| before t / sum of |a|).

    mu is the policy that sampled. The run's advantages are not used: a is the advantage, whose mean is -KL(mu || teacher).
    The further a completion has gone where the teacher would not, the less its judgement of the next token is worth. g
    falls from 1 + gamma at the first token to 1 behind the last one.

    The weight is that of the authors' code and of TRL's `iw_opd`, and the loss is TRL's. The authors put g a into PPO's
    clipped surrogate instead, which with one update per batch has the same gradient.

    Args:
        gamma: how much more the first token counts than the last; TRL's default. The authors' script writes 1 + gamma, 1.5.
            0 is plain on-policy distillation.

    Reports:
        teacher_kl: the mean of log pi_teacher - log mu over counted tokens, in nats. Its negative estimates the KL
            divergence.
        weight: the mean of g over counted tokens.
    """
    assert inputs.teacher_logprobs is not None
    counted = inputs.loss_mask
    # In float16, the smallest total would be 0.
    gap = at_least_float32(torch.where(counted, inputs.teacher_logprobs - inputs.inference_logprobs, 0.0))
    size = gap.abs()
    before = size.cumsum(dim=1) - size
    weight = 1 + gamma * (1 - before / sequence_sum(size, counted).clamp(min=SMALLEST_TOTAL))
    metrics = {"teacher_kl": Mean.over(gap, counted), "weight": Mean.over(weight, counted)}
    return LossOutputs(-weight * gap * inputs.trainer_logprobs, metrics)
