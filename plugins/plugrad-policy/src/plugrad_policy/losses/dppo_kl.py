"""prime-rl's later default loss: a one-sided trust region on probabilities plus the squared log-ratio."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.mismatch import mismatch_metrics
from plugrad_policy.losses.probability import probability

NotNegative = Annotated[float, Field(ge=0)]


@loss()
def dppo_kl(
    inputs: BatchLossInputs,
    mask_low: NotNegative = 0.2,
    mask_high: NotNegative = 0.2,
    adv_tau: NotNegative = 1.0,
    kl_tau: NotNegative = 1e-3,
) -> LossOutputs:
    """-M adv_tau r A + kl_tau (log r)^2,  r = pi / mu,  mu the policy that sampled.

    M is 0 where A > 0 and pi - mu > mask_high, and where A <= 0 and pi - mu < -mask_low. Else M is 1. The second term
    also applies to masked tokens and pulls the policy towards the one that sampled.

    The formula and the defaults are prime-rl's (`default_loss_fn` with `dppo_mask_low` and `dppo_mask_high`), after
    DPPO (arXiv:2602.04879). It is not verl's `dppo_kl`, which is `dppo` with `divergence = "kl"`.

    Args:
        mask_low: how far the probability of a token with A <= 0 may fall.
        mask_high: how far the probability of a token with A > 0 may rise.
        adv_tau: the coefficient of the advantage.
        kl_tau: the coefficient of the squared log-ratio.

    Reports:
        mismatch_kl: the mean of r - log r - 1 over counted tokens, in nats.
        masked_mismatch_kl: the same over tokens with M = 0.
        unmasked_mismatch_kl: the same over tokens with M = 1.
        is_masked: the share of counted tokens with M = 0.
        is_masked_low: the share of counted tokens that mask_low masks.
        is_masked_high: the share of counted tokens that mask_high masks.
    """
    counted, positive = inputs.loss_mask, inputs.advantages > 0
    log_r = inputs.trainer_logprobs - inputs.inference_logprobs
    moved = probability(inputs.trainer_logprobs) - probability(inputs.inference_logprobs)
    high, low = positive & (moved > mask_high), ~positive & (moved < -mask_low)
    masked = high | low
    per_token = torch.where(masked, 0.0, -adv_tau * finite_exp(log_r) * inputs.advantages) + kl_tau * log_r.square()
    metrics = {
        **mismatch_metrics(log_r, masked, counted),
        "is_masked_low": Mean.over(low, counted),
        "is_masked_high": Mean.over(high, counted),
    }
    return LossOutputs(per_token, metrics)
