"""Promises about a loss's numerics: in low precision, and far from the policy that sampled."""

from __future__ import annotations

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs
from plugrad.host.synthetic import in_dtype, map_tensors
from plugrad.testing.checks import Broken, Promise
from plugrad.testing.losses.loss_trial import LossTrial
from plugrad.testing.losses.trial_micro_batches import LENGTHS, draw_micro_batch, on_policy
from plugrad.testing.numbers import is_finite

FAR = 20.0
COARSE = 0.1


def _check_bfloat16(loss: LossTrial) -> str:
    drifted = draw_micro_batch(dtype=torch.bfloat16)
    values, gradients = loss.values_and_gradients(drifted)
    if not is_finite(values) or not all(is_finite(gradient) for gradient in gradients):
        raise Broken("its value or gradient is not finite")
    # Compared on-policy only: elsewhere, rounding can push a ratio across a clip bound.
    coarse = on_policy(drifted)
    precise = in_dtype(coarse, torch.double)
    _, gradients = loss.values_and_gradients(coarse)
    _, expected = loss.values_and_gradients(precise)
    norm = sum(float(g.square().sum()) for g in expected) ** 0.5
    error = sum(float((g.double() - e).square().sum()) for g, e in zip(gradients, expected, strict=True)) ** 0.5
    if not error <= COARSE * norm:
        raise Broken(f"its gradient is {error / norm:.0%} off the float64 gradient of the same numbers")
    return f"gradient within {error / max(norm, 1e-30):.1%} of float64"


def _check_large_ratios(loss: LossTrial) -> str:
    values, gradients = loss.values_and_gradients(_far_apart(draw_micro_batch(dtype=torch.float32)))
    for what, numbers in (("value", [values]), ("gradient", gradients)):
        if not all(is_finite(number) for number in numbers):
            raise Broken(f"with log-probs {FAR:g} nats apart its {what} is not finite in float32")
    return f"log-probs {FAR:g} nats apart: largest gradient {max(float(g.abs().max()) for g in gradients):.2g}"


def _far_apart(inputs: BatchLossInputs) -> BatchLossInputs:
    """Return the inputs far off-policy: the tokens of alternate rows became much more and much less likely."""
    likelier = (torch.arange(len(LENGTHS)) % 2 == 0).unsqueeze(1)

    def moved(name: str, value: Tensor) -> Tensor:
        if not name.endswith("logprobs"):
            return value
        lowered = ~likelier if name == "trainer_logprobs" else likelier
        return value - FAR * (lowered & inputs.loss_mask)

    return map_tensors(inputs, moved)


NUMERICS: tuple[Promise[LossTrial], ...] = (
    Promise(
        "bfloat16",
        "it works in bfloat16, with about the same result",
        "Other training loops pass log-probs in 16 bits, and bfloat16 has three digits.",
        "Create tensors with x.new_tensor(...) or zeros_like(x); do not hard-code a dtype. Sum long rows in float32 "
        "(x.float().sum()).",
        _check_bfloat16,
    ),
    Promise(
        "large_ratios",
        "it does not overflow far from the policy that sampled",
        "One rare token with a large trainer-engine mismatch is enough: exp(89) is infinite in float32, and 0 * inf is NaN.",
        "Bound the log-ratio before exp, as in log_ratio.clamp(-20, 20). Over a whole sequence, take its mean or clamp its "
        "sum.",
        _check_large_ratios,
    ),
)
