"""Importance sampling between engine and trainer, masked where they disagree (prime-rl's `default_loss_fn`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import loss
from plugrad.contracts.measures import Mean

MAX_SEQUENCE_LOG_RATIO = 10.0


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {"teacher_logprobs"} if options["teacher_tau"] else set()


@loss(needs=_needs)
def importance_sampling(
    inputs: BatchLossInputs,
    ratio_type: Literal["token", "sequence"] = "token",
    token_mask_low: float = 0.125,
    token_mask_high: float = 8.0,
    geo_mask_low: float = 0.1,
    geo_mask_high: float = 10.0,
    sequence_mask_low: float = 0.0,
    sequence_mask_high: float = 100.0,
    sequence_clip_high: float = 10.0,
    adv_tau: float = 1.0,
    teacher_tau: float = 0.0,
    kl_tau: float = 0.0,
) -> LossOutputs:
    """- sum over m of sg[w (adv_tau A + teacher_tau (log pi_teacher - log pi) - kl_tau l)] log pi.

    l = log pi - log mu, r = exp(l); m is counted and not masked out. w = r, or with `ratio_type = "sequence"`
    min(exp(min(sum of l, 10)), sequence_clip_high) / counted tokens. Masked out are tokens with r outside
    [token_mask_low, token_mask_high], and whole sequences with exp(mean l) outside [geo_mask_low, geo_mask_high] or any r
    outside [sequence_mask_low, sequence_mask_high].

    The formula and the defaults are prime-rl's (`default_loss_fn` of its documentation).

    Args:
        ratio_type: whether w is the token's own ratio or its sequence's.
        token_mask_low: mask out tokens with a smaller r.
        token_mask_high: mask out tokens with a greater r.
        geo_mask_low: mask out sequences whose geometric mean of r is smaller.
        geo_mask_high: mask out sequences whose geometric mean of r is greater.
        sequence_mask_low: mask out sequences in which any r is smaller.
        sequence_mask_high: mask out sequences in which any r is greater.
        sequence_clip_high: with `ratio_type = "sequence"`, the greatest ratio of a sequence.
        adv_tau: the factor of the advantage.
        teacher_tau: the factor of log pi_teacher - log pi; other than 0, it needs `[model.teacher]`.
        kl_tau: the factor of l, which pulls the policy towards the engine that sampled.

    Reports:
        mismatch_kl: the mean of r - l - 1 over counted tokens, in nats: near zero where engine and trainer agree.
        masked_mismatch_kl: the same over tokens that were masked out.
        unmasked_mismatch_kl: the same over tokens that were kept.
        is_masked: the share of counted tokens that were masked out.
        is_masked_low: the share of counted tokens below `token_mask_low`.
        is_masked_high: the share of counted tokens above `token_mask_high`.
        geo_masked_low: the share of sequences below `geo_mask_low`.
        geo_masked_high: the share of sequences above `geo_mask_high`.
    """
    counted = inputs.loss_mask
    log_ratio = torch.where(counted, inputs.trainer_logprobs - inputs.inference_logprobs, 0.0).detach()
    ratio = log_ratio.exp()
    num_tokens = counted.sum(dim=1, keepdim=True).clamp(min=1)
    geo_ratio = (log_ratio.sum(dim=1, keepdim=True) / num_tokens).exp()

    low, high = ratio < token_mask_low, ratio > token_mask_high
    any_low = (counted & (ratio < sequence_mask_low)).any(dim=1, keepdim=True)
    any_high = (counted & (ratio > sequence_mask_high)).any(dim=1, keepdim=True)
    geo_low, geo_high = geo_ratio < geo_mask_low, geo_ratio > geo_mask_high
    masked = low | high | any_low | any_high | geo_low | geo_high

    weight = ratio
    if ratio_type == "sequence":
        sequence_ratio = log_ratio.sum(dim=1, keepdim=True).clamp(max=MAX_SEQUENCE_LOG_RATIO).exp()
        weight = sequence_ratio.clamp(max=sequence_clip_high) / num_tokens
    signal = adv_tau * inputs.advantages - kl_tau * log_ratio
    if teacher_tau:
        assert inputs.teacher_logprobs is not None
        signal = signal + teacher_tau * (inputs.teacher_logprobs - inputs.trainer_logprobs.detach())
    per_token = torch.where(counted & ~masked, -(weight * signal).detach() * inputs.trainer_logprobs, 0.0)
    return LossOutputs(per_token, _metrics(counted, masked, low, high, ratio - log_ratio - 1, geo_low, geo_high))


def _metrics(
    counted: Tensor, masked: Tensor, low: Tensor, high: Tensor, mismatch_kl: Tensor, geo_low: Tensor, geo_high: Tensor
) -> dict[str, Tensor | Mean | float]:
    return {
        "mismatch_kl": Mean.over(mismatch_kl, counted),
        "masked_mismatch_kl": Mean.over(mismatch_kl, counted & masked),
        "unmasked_mismatch_kl": Mean.over(mismatch_kl, counted & ~masked),
        "is_masked": Mean.over(masked, counted),
        "is_masked_low": Mean.over(low, counted),
        "is_masked_high": Mean.over(high, counted),
        "geo_masked_low": Mean.of(geo_low.squeeze(1).float()),
        "geo_masked_high": Mean.of(geo_high.squeeze(1).float()),
    }
