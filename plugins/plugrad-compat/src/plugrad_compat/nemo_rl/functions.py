"""Helper functions that NeMo RL's losses use."""

from __future__ import annotations

from torch import Tensor

from plugrad import PluginError, k3

EPS = 1e-8


def masked_mean(
    values: Tensor,
    mask: Tensor,
    dim: int | None = None,
    global_normalization_factor: Tensor | float | None = None,
) -> Tensor:
    """Return the sum over the mask, divided by the mask's count or by the given factor."""
    counted = mask.sum() if dim is None else mask.sum(dim=dim)
    denominator = counted if global_normalization_factor is None else global_normalization_factor
    summed = values * mask
    total: Tensor = (summed.sum() if dim is None else summed.sum(dim=dim)) / (denominator + EPS)
    return total


def calculate_kl(
    logprobs: Tensor,
    logprobs_reference: Tensor,
    kl_type: str = "k3",
    input_clamp_value: float | None = 20.0,
    output_clamp_value: float | None = 10.0,
) -> Tensor:
    """Return an estimate of the KL divergence to the reference, per token: "k1", "k2" or "k3".

    Raises:
        PluginError: the estimator is unknown.
    """
    log_ratio = logprobs_reference - logprobs
    if input_clamp_value is not None:
        log_ratio = log_ratio.clamp(-input_clamp_value, input_clamp_value)
    estimators = {"k1": -log_ratio, "k2": log_ratio.square() / 2, "k3": k3(log_ratio)}
    if kl_type not in estimators:
        raise PluginError(f"kl_type = {kl_type!r}: NeMo RL has {', '.join(estimators)}.")
    found = estimators[kl_type]
    return found if output_clamp_value is None else found.clamp(-output_clamp_value, output_clamp_value)
