"""PPO's clipped surrogate, once in batch form and in four styles for one sequence; all have the same gradient."""

import torch
from torch import Tensor

from plugrad import BatchLossInputs, LossInputs, LossOutputs, Mean

STYLES = {
    "boolean mask, scalar": "by_boolean_mask",
    "one value per token": "per_token",
    "torch.where, scalar": "by_where",
    "one value per token, Mean.over": "per_token_with_measures",
}
"""The function of each per-sequence style."""


def in_batch_form(inputs: BatchLossInputs, clip_eps: float = 0.2) -> LossOutputs:
    """-min(r A, clip(r) A), for a whole micro-batch."""
    ratio, clipped, loss = _surrogate(inputs, clip_eps)
    return LossOutputs(
        loss, {"clip_frac": Mean.over(ratio != clipped, inputs.loss_mask), "ratio_mean": Mean.over(ratio, inputs.loss_mask)}
    )


def by_boolean_mask(inputs: LossInputs, clip_eps: float = 0.2) -> LossOutputs:
    """-sum min(r A, clip(r) A), by picking the counted tokens, as prime-rl's documentation has it."""
    ratio, clipped, loss = _surrogate(inputs, clip_eps)
    metrics = {
        "clip_frac": (ratio != clipped)[inputs.loss_mask].float().mean(),
        "ratio_mean": ratio[inputs.loss_mask].mean(),
    }
    return LossOutputs(loss[inputs.loss_mask].sum(), metrics)


def per_token(inputs: LossInputs, clip_eps: float = 0.2) -> LossOutputs:
    """-min(r A, clip(r) A); the host sums where tokens count."""
    ratio, clipped, loss = _surrogate(inputs, clip_eps)
    metrics = {
        "clip_frac": (ratio != clipped)[inputs.loss_mask].float().mean(),
        "ratio_mean": ratio.detach()[inputs.loss_mask].mean(),
    }
    return LossOutputs(loss, metrics)


def by_where(inputs: LossInputs, clip_eps: float = 0.2) -> LossOutputs:
    """-sum min(r A, clip(r) A), by putting zero where no token counts."""
    ratio, clipped, loss = _surrogate(inputs, clip_eps)
    count = inputs.loss_mask.sum()
    metrics = {
        "clip_frac": torch.where(inputs.loss_mask, ratio != clipped, False).sum() / count,
        "ratio_mean": torch.where(inputs.loss_mask, ratio.detach(), 0.0).sum() / count,
    }
    return LossOutputs(torch.where(inputs.loss_mask, loss, 0.0).sum(), metrics)


def per_token_with_measures(inputs: LossInputs, clip_eps: float = 0.2) -> LossOutputs:
    """-min(r A, clip(r) A), with metrics that weigh each token alike."""
    ratio, clipped, loss = _surrogate(inputs, clip_eps)
    return LossOutputs(
        loss, {"clip_frac": Mean.over(ratio != clipped, inputs.loss_mask), "ratio_mean": Mean.over(ratio, inputs.loss_mask)}
    )


def _surrogate(inputs: LossInputs | BatchLossInputs, clip_eps: float) -> tuple[Tensor, Tensor, Tensor]:
    ratio = torch.exp(inputs.trainer_logprobs - inputs.inference_logprobs)
    clipped = torch.clamp(ratio, 1 - clip_eps, 1 + clip_eps)
    return ratio, clipped, -torch.min(ratio * inputs.advantages, clipped * inputs.advantages)
