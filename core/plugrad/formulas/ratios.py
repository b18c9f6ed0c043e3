"""Ratios of probabilities and estimates of a KL divergence from log-probs, for losses and metrics.

A token that is out of date or corrupt can differ by thousands of nats, where exp is infinite. A branch with it has the
gradient 0 * inf = NaN even if `where`, `minimum` or a mask discards its value. Here values and gradients are finite.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

HEADROOM = 10.0
"""Nats that a limit leaves free. The product of two ratios of 10^4 nats is then finite, and so is their square, which the
norm of a gradient takes."""
FARTHEST = 1e5
"""Nats beyond the limit at which the tangent ends, so that infinity becomes a finite number too."""
SERIES_WITHIN = 0.5
NUM_TERMS = {torch.float32: 8, torch.float64: 14}
"""At `SERIES_WITHIN`, the first term left out is below the rounding."""


@cache
def greatest_exponent(dtype: torch.dtype) -> float:
    """Return the number up to which `finite_exp` is exp: 34.4 in float32, 344.9 in float64."""
    return math.log(torch.finfo(dtype).max) / 2 - HEADROOM


def finite_exp(log_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The exponential of x, and beyond the greatest exponent M its tangent e^M (1 + x - M), so that it stays finite.

    Value and gradient are those of exp, digit by digit, up to M = 34.4 in float32 and M = 344.9 in float64. Beyond, the
    gradient is e^M: the direction survives. 16-bit numbers are computed in float32, and so is the result.
    """
    x = at_least_float32(log_ratio)
    limit = greatest_exponent(x.dtype)
    return x.clamp(max=limit).exp() * (1 + _excess(x, limit))


def k3(log_ratio: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The estimator k3 = exp(x) - 1 - x, with the gradient exp(x) - 1. Never negative, and exact near 0 too.

    With x = log q - log p at tokens sampled from p, its mean is KL(p || q) (Schulman, "Approximating KL divergence", 2020).
    exp(x) is `finite_exp`. 16-bit numbers are computed in float32, and so is the result.
    """
    x = at_least_float32(log_ratio)
    limit = greatest_exponent(x.dtype)
    bounded = x.clamp(max=limit)
    far = bounded.expm1() * (1 + _excess(x, limit)) - bounded
    # Near 0 the difference of two numbers that are nearly x has no digits left, and neither has its gradient.
    return torch.where(x.abs() < SERIES_WITHIN, _series(x.clamp(-SERIES_WITHIN, SERIES_WITHIN)), far)


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the values in float32, or in float64 if they already are.

    A gradient that float16 cannot hold becomes the greatest that it can.
    """
    if values.dtype == torch.float16 and values.requires_grad:
        widened: Tensor = _Widened.apply(values)  # type: ignore[no-untyped-call]
        return widened
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _excess(x: Tensor, limit: float) -> Tensor:
    """Return how far x is beyond the limit, with a gradient of 0 at the limit itself, where exp has its own."""
    return torch.relu(x - limit).clamp(max=FARTHEST)


def _series(x: Tensor) -> Tensor:
    """Return x^2/2 (1 + x/3 (1 + x/4 (1 + ...)))."""
    bracket = torch.ones_like(x)
    for divisor in range(NUM_TERMS[x.dtype] + 2, 2, -1):
        bracket = 1 + x / divisor * bracket
    return x * x / 2 * bracket


class _Widened(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        return values.float()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        greatest = torch.finfo(ctx.dtype).max
        # What is infinite already is the fault of a loss, and must stay visible.
        bounded = torch.where(gradient.isinf(), gradient, gradient.clamp(-greatest, greatest))
        return bounded.to(ctx.dtype)
