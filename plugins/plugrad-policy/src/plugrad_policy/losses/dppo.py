"""DPPO: a trust region on probabilities instead of ratios, in its binary forms (arXiv:2602.04879)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.probability import probability

Positive = Annotated[float, Field(gt=0)]
THRESHOLDS = {"tv": 0.15, "kl": 0.05}


@loss(policy_gradient=True)
def dppo(
    inputs: BatchLossInputs,
    divergence: Literal["tv", "kl"] = "tv",
    threshold: Positive | None = None,
    max_ratio: Positive = 20.0,
) -> LossOutputs:
    """-M sg(min(r, max_ratio)) A log pi(t),  r = pi / mu,  mu the policy that sampled.

    M is 0 where D > threshold and A would push pi further from mu, that is, where A and pi - mu have the same sign.
    Else M is 1. D compares two distributions over {the sampled token, any other token}. It is tv = |pi - mu| or kl =
    mu log(mu / pi) + (1 - mu) log((1 - mu) / (1 - pi)). The paper's top-K forms need the logits and are not offered.

    Args:
        divergence: which D to use.
        threshold: the divergence above which a token may move no further. By default the paper's: 0.15 for tv, 0.05
            for kl.
        max_ratio: the largest weight of a token. 20 is the default of verl and TRL. The paper's formula has no bound.

    Reports:
        is_masked: the share of counted tokens with M = 0.
        divergence: the mean of D over counted tokens.
        ratio: the mean of r over counted tokens.
    """
    policy, sampler, counted = inputs.trainer_logprobs, inputs.inference_logprobs, inputs.loss_mask
    ratio = finite_exp((policy - sampler).detach())
    moved = probability(policy) - probability(sampler)
    distance = moved.abs() if divergence == "tv" else binary_kl(sampler, policy.detach())
    limit = THRESHOLDS[divergence] if threshold is None else threshold
    masked = (distance > limit) & (inputs.advantages * moved > 0)
    weight = torch.where(masked, 0.0, ratio.clamp(max=max_ratio))
    metrics = {
        "is_masked": Mean.over(masked, counted),
        "divergence": Mean.over(distance, counted),
        "ratio": Mean.over(ratio, counted),
    }
    return LossOutputs(-weight * inputs.advantages * policy, metrics)


def binary_kl(logprobs: Tensor, other: Tensor) -> Tensor:
    """Return KL(p || q) of two coins, given the log-prob of heads. It stays finite where a coin always shows heads."""
    # In 16 bits, what is left of nearly equal numbers has no correct digit.
    logprobs, other = (values.to(torch.promote_types(values.dtype, torch.float32)) for values in (logprobs, other))
    most = 1 - torch.finfo(logprobs.dtype).eps
    p, q = logprobs.exp().clamp(max=most), other.exp().clamp(max=most)
    # 0 log 0 is 0.
    heads = p * torch.where(p > 0, logprobs - other, 0.0)
    return heads + (1 - p) * (torch.log1p(-p) - torch.log1p(-q))
