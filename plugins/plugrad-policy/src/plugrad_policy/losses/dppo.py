"""DPPO: a trust region of probabilities instead of ratios (arXiv:2602.04879), in its binary forms."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, loss
from plugrad_policy.losses.ratios import log_ratio

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

    M is 0 where D > threshold and A would push pi further from mu, that is where A and pi - mu have the same sign, else 1. D
    compares two distributions over {the sampled token, any other}: tv = |pi - mu|, or
    kl = mu log(mu / pi) + (1 - mu) log((1 - mu) / (1 - pi)). The paper's top-K forms need the logits and are not here.

    Args:
        divergence: which of the two.
        threshold: the divergence from which a token may not move on. By default the paper's: 0.15 for tv, 0.05 for kl.
        max_ratio: the greatest weight of a token. 20 is verl's and TRL's; the paper's formula has none.

    Reports:
        is_masked: the share of counted tokens with M = 0.
        divergence: the mean of D over counted tokens.
        ratio: the mean of r over counted tokens.
    """
    policy, sampler, counted = inputs.trainer_logprobs, inputs.inference_logprobs, inputs.loss_mask
    ratio = log_ratio(policy, sampler).detach().exp()
    moved = policy.detach().exp() - sampler.exp()
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
    """KL(p || q) of two coins from the log-probs of their heads; finite where one of them always shows it."""
    most = 1 - torch.finfo(logprobs.dtype).eps
    p, q = logprobs.exp().clamp(max=most), other.exp().clamp(max=most)
    return p * log_ratio(logprobs, other) + (1 - p) * (torch.log1p(-p) - torch.log1p(-q))
