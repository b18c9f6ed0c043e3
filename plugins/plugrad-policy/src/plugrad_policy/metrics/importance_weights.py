"""Importance weights of the policy over a sampling policy: how many samples they leave, and how far they go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from plugrad import Max, Mean, Measure, MetricInputs, Min, finite_exp, metric

Positive = Annotated[float, Field(gt=0)]


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {"old_logprobs"} if options["against"] == "old" else set()


@metric(needs=_needs)
def importance_weights(
    inputs: MetricInputs, against: Literal["inference", "old"] = "inference", low: Positive = 0.5, high: Positive = 2.0
) -> dict[str, Measure]:
    """r = pi / mu on the counted tokens; with `against = "old"`, r = pi / pi_old. Nothing for replayed completions.

    The effective sample size as a share is (mean r)^2 / mean r^2, here 1 / mean r^2, as the mean of r is 1 for tokens
    sampled from mu (Kong 1992). The chi-square divergence is chi2(pi || mu) = mean r^2 - 1. Both follow from the mean of
    r^2, which adds up over micro-batches and ranks.

    Args:
        against: the policy in the denominator. "old" costs a forward pass unless a loss already needs it.
        low: a ratio below it is small. These two are this package's own defaults.
        high: a ratio above it is large.

    Reports:
        chi_square: the mean of r^2 - 1. 1 / (1 + chi_square) is the effective sample size as a share.
        min: the smallest r.
        max: the largest r.
        small: the share of tokens with r below `low`.
        large: the share of tokens with r above `high`.
    """
    other = inputs.inference_logprobs if against == "inference" else inputs.old_logprobs
    counted = inputs.loss_mask
    if other is None or not counted.any():
        return {}
    log_ratio = torch.where(counted, inputs.trainer_logprobs - other, 0.0)
    ratio = finite_exp(log_ratio)
    of_tokens = ratio[counted]
    return {
        "chi_square": Mean.over(finite_exp(2 * log_ratio) - 1, counted),
        "min": Min(of_tokens.min()),
        "max": Max(of_tokens.max()),
        "small": Mean.over(ratio < low, counted),
        "large": Mean.over(ratio > high, counted),
    }
