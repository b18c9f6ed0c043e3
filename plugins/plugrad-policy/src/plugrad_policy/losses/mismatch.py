"""Metrics of the trainer-engine mismatch, for the losses that follow prime-rl."""

from __future__ import annotations

from torch import Tensor

from plugrad import Mean, k3


def mismatch_metrics(log_r: Tensor, masked: Tensor, counted: Tensor) -> dict[str, Mean]:
    """Return the mean of r - log r - 1 over all counted, masked and unmasked tokens, and the masked share."""
    mismatch_kl = k3(log_r.detach())
    return {
        "mismatch_kl": Mean.over(mismatch_kl, counted),
        "masked_mismatch_kl": Mean.over(mismatch_kl, counted & masked),
        "unmasked_mismatch_kl": Mean.over(mismatch_kl, counted & ~masked),
        "is_masked": Mean.over(masked, counted),
    }
