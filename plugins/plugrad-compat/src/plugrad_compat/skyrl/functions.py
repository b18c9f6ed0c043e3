"""Functions of SkyRL's `ppo_utils` that its losses use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from plugrad import OptionError, PluginError, k3

LIMIT = 20.0
CORRECTIONS = (
    "tis_ratio_type",
    "sequence_mask_metric",
    "outlier_token_is_threshold_low",
    "outlier_token_is_threshold_high",
    "token_mask_is_threshold_low",
    "token_mask_is_threshold_high",
)
"""Keys that switch on a correction of SkyRL's (`OffPolicyCorrectionConfig` in `skyrl/train/config/config.py`)."""


def masked_mean(tensor: Tensor, mask: Tensor | None, dim: int | None = None) -> Tensor:
    """Return the mean over the mask, of all values or along one axis."""
    if mask is None:
        return tensor.mean() if dim is None else tensor.mean(dim=dim)
    summed = tensor * mask
    if dim is None:
        return summed.sum() / mask.sum().clamp(min=1.0)
    return summed.sum(dim=dim) / mask.sum(dim=dim).clamp(min=1.0)


def reduce_loss(
    loss: Tensor,
    loss_mask: Tensor | None,
    loss_reduction: str = "token_mean",
    max_seq_len: int | None = None,
) -> Tensor:
    """Return the mean over the counted tokens of the given sequence.

    SkyRL chooses the denominator of the batch here. In plugrad, the run file's `reduction` does, and a loss receives
    one sequence at a time. For one sequence, all of SkyRL's reductions are the mean over tokens, up to a constant.
    """
    return masked_mean(loss, loss_mask)


def safe_exp_delta(delta: Tensor, clip: float = LIMIT, out_dtype: torch.dtype | None = None) -> Tensor:
    """Return exp(delta), with delta clamped first so that it cannot overflow."""
    return delta.clamp(-clip, clip).exp().to(out_dtype or delta.dtype)


def compute_approx_kl(
    log_probs: Tensor, log_probs_base: Tensor, loss_mask: Tensor | None = None, kl_estimator_type: str = "k3"
) -> Tensor:
    """Return an estimate of the KL divergence per token: "k1", "abs", "k2" or "k3".

    Raises:
        PluginError: the estimator is unknown.
    """
    log_ratio = log_probs - log_probs_base
    bounded = log_ratio.clamp(-LIMIT, LIMIT)
    estimators = {
        "k1": log_ratio,
        "abs": log_ratio.abs(),
        "k2": 0.5 * log_ratio.square(),
        "k3": k3(-bounded).clamp(-10, 10),
    }
    if kl_estimator_type not in estimators:
        raise PluginError(f"kl_estimator_type = {kl_estimator_type!r}: SkyRL has {', '.join(estimators)}.")
    estimate = estimators[kl_estimator_type]
    return estimate if loss_mask is None else estimate * loss_mask


def apply_off_policy_correction(
    loss: Tensor,
    old_log_probs: Tensor,
    rollout_logprobs: Tensor | None,
    loss_mask: Tensor | None,
    off_policy_correction: Mapping[str, Any],
) -> tuple[Tensor, Tensor | None, dict[str, float]]:
    """Return the loss and its mask unchanged, and no metrics, as SkyRL does with its correction off.

    Raises:
        OptionError: the correction is on.
    """
    asked = [name for name in CORRECTIONS if off_policy_correction.get(name) is not None]
    if asked:
        raise OptionError(
            f"config.off_policy_correction.{asked[0]} = {off_policy_correction[asked[0]]!r}: plugrad corrects for "
            'trainer-engine mismatch by an extension: [[extension]] name = "mismatch_correction" (plugrad-policy).'
        )
    return loss, loss_mask, {}
