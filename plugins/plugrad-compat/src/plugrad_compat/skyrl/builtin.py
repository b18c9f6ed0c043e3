"""SkyRL's own policy losses under its names, with its defaults (`AlgorithmConfig` in `skyrl/train/config/config.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss


@loss(needs={"old_logprobs"}, policy_gradient=True)
def skyrl_standard(inputs: BatchLossInputs) -> LossOutputs:
    """-r A,  r = pi / pi_old: the policy gradient without clipping that SkyRL's guide lists as `standard`."""
    return LossOutputs(-_ratio(inputs) * inputs.advantages)


@loss(needs={"old_logprobs"}, policy_gradient=True)
def skyrl_regular(inputs: BatchLossInputs, eps_clip_low: float = 0.2, eps_clip_high: float = 0.2) -> LossOutputs:
    """-min(r A, clip(r, 1 - eps_clip_low, 1 + eps_clip_high) A): SkyRL's default loss (`regular`).

    Args:
        eps_clip_low: how far below 1 the ratio may go; SkyRL's.
        eps_clip_high: how far above 1 the ratio may go; SkyRL's.

    Reports:
        clip_ratio: the share of counted tokens that the clip decides.
    """
    per_token, is_clipped = _clipped(_ratio(inputs), inputs.advantages, eps_clip_low, eps_clip_high)
    return LossOutputs(per_token, {"clip_ratio": Mean.over(is_clipped, inputs.loss_mask)})


@loss(needs={"old_logprobs"}, policy_gradient=True)
def skyrl_dual_clip(
    inputs: BatchLossInputs, eps_clip_low: float = 0.2, eps_clip_high: float = 0.2, clip_ratio_c: float = 3.0
) -> LossOutputs:
    """max(-clip_ratio_c |A|, `skyrl_regular`) where A < 0, `skyrl_regular` elsewhere; written with min of losses.

    Args:
        eps_clip_low: how far below 1 the ratio may go; SkyRL's.
        eps_clip_high: how far above 1 the ratio may go; SkyRL's.
        clip_ratio_c: the largest ratio where the advantage is negative; SkyRL's.

    Reports:
        clip_ratio: the share of counted tokens that the first clip decides.
    """
    clipped, is_clipped = _clipped(_ratio(inputs), inputs.advantages, eps_clip_low, eps_clip_high)
    bounded = torch.minimum(-inputs.advantages * clip_ratio_c, clipped)
    per_token = torch.where(inputs.advantages < 0, bounded, clipped)
    return LossOutputs(per_token, {"clip_ratio": Mean.over(is_clipped, inputs.loss_mask)})


@loss(needs={"old_logprobs"}, policy_gradient=True)
def skyrl_cispo(inputs: BatchLossInputs, cispo_eps_clip_low: float = 1.0, cispo_eps_clip_high: float = 4.0) -> LossOutputs:
    """-sg(clip(r, 1 - cispo_eps_clip_low, 1 + cispo_eps_clip_high)) A log pi.

    Args:
        cispo_eps_clip_low: how far below 1 the weight may go. 1.0 allows ratios down to 0.
        cispo_eps_clip_high: how far above 1 the weight may go. 4.0 bounds the ratio at 5. Earlier releases of SkyRL
            used 0 and 5 as offsets, and clipped to [1, 6].

    Reports:
        clip_ratio: the share of counted tokens whose ratio is outside.
    """
    ratio = _ratio(inputs)
    weight = ratio.clamp(1 - cispo_eps_clip_low, 1 + cispo_eps_clip_high).detach()
    per_token = -weight * inputs.advantages * inputs.trainer_logprobs
    return LossOutputs(per_token, {"clip_ratio": Mean.over(weight != ratio, inputs.loss_mask)})


@loss(needs={"old_logprobs"}, reduction="sequence", policy_gradient=True)
def skyrl_gspo(inputs: BatchLossInputs, eps_clip_low: float = 0.2, eps_clip_high: float = 0.2) -> LossOutputs:
    """-min(s_t A, clip(s_t, 1 - eps_clip_low, 1 + eps_clip_high) A),  s_t = sg(s) pi / sg(pi).

    s is the geometric mean of r over the sequence's counted tokens (GSPO-token, arXiv:2507.18071, eq. 14).

    Args:
        eps_clip_low: how far below 1 the ratio may go; SkyRL's default for every loss. The paper's is 3e-4.
        eps_clip_high: how far above 1 the ratio may go; SkyRL's default for every loss. The paper's is 4e-4.

    Reports:
        clip_ratio: the share of counted tokens that the clip decides.
    """
    assert inputs.old_logprobs is not None
    log_ratio = (inputs.trainer_logprobs - inputs.old_logprobs) * inputs.loss_mask
    mean = log_ratio.sum(dim=1, keepdim=True) / inputs.loss_mask.sum(dim=1, keepdim=True)
    own = inputs.trainer_logprobs - inputs.trainer_logprobs.detach()
    ratio = finite_exp(own + mean.detach())
    per_token, is_clipped = _clipped(ratio, inputs.advantages, eps_clip_low, eps_clip_high)
    return LossOutputs(per_token, {"clip_ratio": Mean.over(is_clipped, inputs.loss_mask)})


def _ratio(inputs: BatchLossInputs) -> Tensor:
    # SkyRL clamps the log-ratio at 20, where the gradient ends.
    assert inputs.old_logprobs is not None
    return finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)


def _clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    free, clipped = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return -torch.minimum(free, clipped), clipped < free
