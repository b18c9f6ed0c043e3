"""Clip-Cov: preserve entropy by holding back some tokens whose log-prob and advantage covary (arXiv:2505.22617)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.covariance import covariances
from plugrad_policy.losses.surrogate import ClipRange, clipped_surrogate, is_clipped

Fraction = Annotated[float, Field(gt=0, le=1)]


@loss(needs={"old_logprobs"}, policy_gradient=True, whole_batch=True)
def clip_cov(
    inputs: BatchLossInputs,
    fraction: Fraction = 2e-4,
    cov_low: float = 1.0,
    cov_high: float = 5.0,
    clip_low: ClipRange = 0.2,
    clip_high: ClipRange = 0.2,
) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), and 0 at the held-back tokens;  r = pi / pi_old.

    The covariance of a token is (A - mean A) (log pi - mean log pi), with means over the counted tokens of the whole
    batch (`whole_batch`). Tokens with a covariance between cov_low and cov_high are candidates. `fraction` of the counted
    tokens, at least one, is drawn from them at random and held back. Tokens that the clip decides are never drawn. The
    draw uses torch's random state.

    Args:
        fraction: the share of counted tokens to hold back; verl's default, after the authors' code.
        cov_low: the smallest covariance of a candidate; same source.
        cov_high: the largest covariance of a candidate; same source.
        clip_low: how far below 1 the ratio may go; PPO's default. The paper's formula has no clip; verl's has one.
        clip_high: how far above 1 the ratio may go; PPO's default.

    Reports:
        held_fraction: the share of counted tokens that are held back.
        clip_fraction: the share of counted tokens that the clip decides.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    advantages, counted = inputs.advantages, inputs.loss_mask
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    clipped = is_clipped(ratio, advantages, low=clip_low, high=clip_high)
    covariance = covariances(inputs)
    candidates = counted & ~clipped & (covariance > cov_low) & (covariance < cov_high)
    held = draw(candidates, max(int(fraction * int(counted.sum())), 1))
    per_token = clipped_surrogate(ratio, advantages, low=clip_low, high=clip_high)
    metrics = {
        "held_fraction": Mean.over(held, counted),
        "clip_fraction": Mean.over(clipped, counted),
        "ratio": Mean.over(ratio, counted),
    }
    return LossOutputs(torch.where(held, 0.0, per_token), metrics)


def draw(candidates: Tensor, number: int) -> Tensor:
    """Draw at most `number` of the True elements at random."""
    places = candidates.flatten().nonzero().squeeze(1)
    drawn = torch.zeros_like(candidates).flatten()
    drawn[places[torch.randperm(len(places), device=places.device)[:number]]] = True
    return drawn.view_as(candidates)
