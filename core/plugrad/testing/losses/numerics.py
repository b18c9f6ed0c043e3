"""Promises about a loss's numerics: 16-bit inputs, and policies that hardly differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import isnan

import torch

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.synthetic import in_dtype, map_tensors
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.losses.loss_trial import LossTrial, name_of
from plugrad.testing.losses.ordinary import not_finite, works_in
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, moved, on_policy

COARSE = 0.1
NO_DIGIT = 0.5
IN_DIGITS = (torch.float32, torch.bfloat16)
"""float16 has no number as small as a small penalty at a small distance."""
SMALL = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (2**-9, 3 * 2**-9), torch.float16: (2**-9, 3 * 2**-9)}
"""Distances of two policies, in nats, by dtype. A 16-bit number can hold them between -0.5 and -0.25."""
WIDEN = (
    "Compute in float32 at least: plugrad.at_least_float32(x), or plugrad.finite_exp(x), which does so. Create tensors with "
    "x.new_tensor(...) or zeros_like(x); do not hard-code a dtype."
)
RANGES = {
    torch.bfloat16: "bfloat16 has three digits: 1 + 0.003 is 1, and a small difference of large numbers is 0.",
    torch.float16: "float16 ends at 65504, which is less than exp(12), and begins at 6e-8: an epsilon of 1e-8 is 0 there.",
}
"""What can make a number infinite or NaN that is finite in float32."""


def _half_precision(dtype: torch.dtype) -> Callable[[LossTrial], str]:
    def check(loss: LossTrial) -> str:
        failure = not_finite(loss, dtype)
        if failure:
            raise Broken(f"{failure.seen}, but finite in float32", why=RANGES[dtype])
        drifted = draw_micro_batch(dtype=dtype)
        # Far from the clip bounds: elsewhere, rounding can push the ratio of a correct loss across one.
        error = _gradient_error(loss, on_policy(drifted), "its gradient")
        for nats in SMALL[dtype]:
            for sign in (1, -1):
                near = moved(_near_zero(drifted), [sign * nats] * len(LENGTHS))
                error = max(error, _gradient_error(loss, near, f"{nats:.2g} nats off policy its gradient"))
        return f"gradient within {error:.1%} of float64"

    return check


def _gradient_error(loss: LossTrial, coarse: BatchLossInputs, what: str) -> float:
    """Return how far the gradient is off that of the same numbers in float64, in relation to its norm."""
    _, gradients = loss.values_and_gradients(coarse)
    _, expected = loss.values_and_gradients(in_dtype(coarse, torch.double))
    norm = math.sqrt(sum(float(g.square().sum()) for g in expected))
    error = math.sqrt(sum(float((g.double() - e).square().sum()) for g, e in zip(gradients, expected, strict=True)))
    if not error <= COARSE * norm:
        raise Broken(f"{what} is {error / norm if norm else error:.0%} off the float64 gradient of the same numbers")
    return error / max(norm, 1e-30)


def _near_zero(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the inputs with log-probs between -0.5 and -0.25."""
    own = inputs.trainer_logprobs.double()
    squeezed = torch.where(inputs.loss_mask, -0.25 - 0.25 * (own.abs() % 1), 0.0)
    return map_tensors(inputs, lambda name, value: squeezed.to(value.dtype) if name.endswith("logprobs") else value)


def _check_small_differences(loss: LossTrial) -> str:
    for dtype, distances in ((d, SMALL[d]) for d in IN_DIGITS if works_in(loss, d)):
        for nats in (sign * nats for nats in distances for sign in (1, -1)):
            inputs = moved(_near_zero(draw_micro_batch(dtype=dtype, advantage=0.0)), [nats] * len(LENGTHS))
            found, expected = _numbers(loss, inputs), _numbers(loss, in_dtype(inputs, torch.double))
            for name, value in expected.items():
                error = abs(found.get(name, value) - value)
                # A mean of nothing is NaN in every dtype.
                if value and not isnan(value) and not error <= NO_DIGIT * abs(value):
                    raise Broken(
                        f"with policies {abs(nats):.2g} nats apart, {name} is {found[name]:.3g} in {name_of(dtype)}, but "
                        f"{value:.3g} in float64"
                    )
    return "as in float64"


def _numbers(loss: LossTrial, inputs: BatchLossInputs) -> dict[str, float]:
    """Return the values and metrics that policies this near have. Without advantages, so that nothing covers them."""
    values, _ = loss.values_and_gradients(inputs)
    losses = {f"the loss of sequence {row}": value for row, value in enumerate(values.tolist())}
    return losses | {f"the metric {name!r}": measure.value() for name, measure in loss.measures(inputs).items()}


def _promise(dtype: torch.dtype, what: str) -> Promise[LossTrial]:
    return Promise(
        name_of(dtype),
        f"it works in {name_of(dtype)}, with about the same result",
        f"Other training loops pass log-probs in 16 bits, and {name_of(dtype)} {what}.",
        WIDEN,
        _half_precision(dtype),
    )


NUMERICS: tuple[Promise[LossTrial], ...] = (
    _promise(torch.bfloat16, "has three digits"),
    _promise(torch.float16, "ends at 65504, which is less than exp(12)"),
    Promise(
        "small_differences",
        "where two policies hardly differ, its value and metrics are as exact as elsewhere",
        "exp(d) - d - 1 has no correct digit near d = 1e-4 in float32, is often negative, and is 0 in bfloat16.",
        "Use plugrad.k3(d) for exp(d) - d - 1, and torch.expm1(d) for exp(d) - 1.",
        _check_small_differences,
    ),
)
