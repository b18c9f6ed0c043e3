"""FIPO: a token counts for more if what follows it has become likelier (future KL, arXiv:2603.19835)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.surrogate import ClipRange, clipped_surrogate, is_clipped

Positive = Annotated[float, Field(gt=0)]
MILDEST = 0.8
"""What the weight of a token that `safety` holds back is at least; the authors' constant."""


@loss(needs={"old_logprobs"}, policy_gradient=True)
def fipo(
    inputs: BatchLossInputs,
    half_life: Positive = 32.0,
    weight_range: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    high_only: bool = True,
    safety: Positive = 10.0,
    ceiling: Annotated[float, Field(gt=1)] = 10.0,
    clip_low: ClipRange = 0.2,
    clip_high: ClipRange = 0.28,
) -> LossOutputs:
    """-min(r f A, clip(r, 1 - clip_low, 1 + clip_high) f A),  r = pi / pi_old,  f = sg(clip(exp(F), low, 1 + weight_range)).

    F_t is the sum over the token and all later ones of 2^(-d / half_life) log r, d tokens further on: the discounted
    future KL. Tokens with r above the ceiling are left out of it. low is 1, or 1 - weight_range without `high_only`. Where
    A < 0 and r is above `safety`, f is kept between 0.8 and 1, so that such a token is not punished more. Where A < 0 the
    loss is at most ceiling f |A|, as in `dual_clip`. With the first update of a batch F is 0 and f is 1.

    d counts an environment's tokens between two replies too; they add nothing. The authors' code also drops a sequence in
    which the ceiling decides several tokens. ms-swift's does not, nor has it a ceiling by default; its `safety` is 4.

    Args:
        half_life: after how many tokens the influence of log r is halved; the value of the authors' script and of ms-swift.
        weight_range: how far from 1 the weight may go; same source.
        high_only: weights below 1 become 1. The authors set it for their 32B model, and ms-swift by default. Smaller models
            did well without it, by a comment in the authors' code.
        safety: the ratio above which a token with a negative advantage is not punished more; the authors' script.
        ceiling: the greatest ratio that counts; same source.
        clip_low: how far below 1 the ratio may go; same source.
        clip_high: how far above 1 the ratio may go; same source.

    Reports:
        future_kl: the mean of F over counted tokens, in nats.
        weight: the mean of f over counted tokens.
        clip_fraction: the share of counted tokens that the clip decides.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    advantages, counted = inputs.advantages, inputs.loss_mask
    log_ratio = inputs.trainer_logprobs - inputs.old_logprobs
    ratio = finite_exp(log_ratio)
    counts = counted & (log_ratio.detach() <= math.log(ceiling))
    future = discounted_future(torch.where(counts, log_ratio.detach().to(ratio), 0.0), half_life)
    weight = finite_exp(future).clamp(1.0 if high_only else 1 - weight_range, 1 + weight_range)
    weight = torch.where((advantages < 0) & (ratio.detach() > safety), weight.clamp(MILDEST, 1.0), weight)
    weighted = weight * advantages
    surrogate = clipped_surrogate(ratio, weighted, low=clip_low, high=clip_high)
    clipped = is_clipped(ratio, advantages, low=clip_low, high=clip_high)
    reported = {"future_kl": future, "weight": weight, "clip_fraction": clipped, "ratio": ratio}
    metrics = {name: Mean.over(values, counted) for name, values in reported.items()}
    return LossOutputs(torch.where(weighted < 0, surrogate.minimum(-ceiling * weighted), surrogate), metrics)


def discounted_future(values: Float[Tensor, "batch seq"], half_life: float) -> Float[Tensor, "batch seq"]:
    """Return the sum over each entry and all later ones, each halved every `half_life` places."""
    total, width = values, 1
    while width < values.shape[1]:
        # What is summed over `width` places becomes a sum over twice as many.
        later = torch.nn.functional.pad(total[:, width:], (0, width))
        total, width = total + math.pow(2, -width / half_life) * later, 2 * width
    return total
