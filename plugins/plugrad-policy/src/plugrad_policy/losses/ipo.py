"""prime-rl's `ipo` loss: a symmetric trust region on probabilities plus the squared log-ratio."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, finite_exp, loss
from plugrad_policy.losses.mismatch import mismatch_metrics
from plugrad_policy.losses.probability import probability

NotNegative = Annotated[float, Field(ge=0)]


@loss()
def ipo(
    inputs: BatchLossInputs, threshold: NotNegative = 0.1, adv_tau: NotNegative = 1.0, kl_tau: NotNegative = 1e-3
) -> LossOutputs:
    """-M adv_tau r A + kl_tau (log r)^2,  r = pi / mu,  mu the policy that sampled.

    M is 0 where |pi - mu| > threshold, else 1. Unlike in `dppo_kl`, M does not depend on the advantage. The second
    term also applies to masked tokens.

    The formula and the defaults are prime-rl's (`ipo_loss_fn` with its option `ipo_threshold`). The preference loss of
    the same name (arXiv:2310.12036) is unrelated.

    Args:
        threshold: how far a token's probability may move.
        adv_tau: the coefficient of the advantage.
        kl_tau: the coefficient of the squared log-ratio.

    Reports:
        mismatch_kl: the mean of r - log r - 1 over counted tokens, in nats.
        masked_mismatch_kl: the same over tokens with M = 0.
        unmasked_mismatch_kl: the same over tokens with M = 1.
        is_masked: the share of counted tokens with M = 0.
    """
    log_r = inputs.trainer_logprobs - inputs.inference_logprobs
    masked = (probability(inputs.trainer_logprobs) - probability(inputs.inference_logprobs)).abs() > threshold
    per_token = torch.where(masked, 0.0, -adv_tau * finite_exp(log_r) * inputs.advantages) + kl_tau * log_r.square()
    return LossOutputs(per_token, mismatch_metrics(log_r, masked, inputs.loss_mask))
