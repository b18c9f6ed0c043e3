"""Importance sampling between engine and trainer, masked where they disagree (prime-rl's `default_loss_fn`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import loss
from plugrad.contracts.measures import Mean
from plugrad.formulas.ratios import finite_exp, k3

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

    l = log pi - log mu and r = exp(l). m is the set of counted tokens that no mask drops. w = r, or with
    `ratio_type = "sequence"` min(exp(min(sum of l, 10)), sequence_clip_high) / counted tokens. Formula and defaults are
    those of prime-rl (`default_loss_fn` in its documentation).

    Args:
        ratio_type: use the ratio of the token, or of its sequence, as w.
        token_mask_low: mask out tokens with a smaller r.
        token_mask_high: mask out tokens with a greater r.
        geo_mask_low: mask out sequences whose geometric mean of r is smaller.
        geo_mask_high: mask out sequences whose geometric mean of r is greater.
        sequence_mask_low: mask out sequences in which any r is smaller.
        sequence_mask_high: mask out sequences in which any r is greater.
        sequence_clip_high: with `ratio_type = "sequence"`, the greatest ratio of a sequence.
        adv_tau: the factor of the advantage.
        teacher_tau: the factor of log pi_teacher - log pi. If it is not 0, the loss needs `[model.teacher]`.
        kl_tau: the factor of l, which pulls the policy towards the engine that sampled.

    Reports:
        mismatch_kl: the mean of r - l - 1 over counted tokens, in nats. It is near zero if engine and trainer agree.
        masked_mismatch_kl: the same over masked-out tokens.
        unmasked_mismatch_kl: the same over kept tokens.
        is_masked: the share of counted tokens that were masked out.
        is_masked_low: the share of counted tokens below `token_mask_low`.
        is_masked_high: the share of counted tokens above `token_mask_high`.
        geo_masked_low: the share of sequences below `geo_mask_low`.
        geo_masked_high: the share of sequences above `geo_mask_high`.
    """
    ratio = _Ratio.of(inputs)
    token = _Outside.of(ratio.per_token, token_mask_low, token_mask_high)
    sequence = _Outside.of(ratio.per_token, sequence_mask_low, sequence_mask_high)
    geo = _Outside.of(ratio.geometric_mean(), geo_mask_low, geo_mask_high)
    weight = ratio.per_token if ratio_type == "token" else ratio.of_sequences(sequence_clip_high)
    signal = adv_tau * inputs.advantages - kl_tau * ratio.log + _towards_teacher(inputs, teacher_tau)
    return _outputs(inputs, weight * signal, ratio, _Masks(token, sequence, geo))


@dataclass(frozen=True)
class _Ratio:
    """r = pi / mu without gradient. It is 1 where no token counts."""

    log: Tensor
    per_token: Tensor
    counted: Tensor

    @classmethod
    def of(cls, inputs: BatchLossInputs) -> _Ratio:
        difference = inputs.trainer_logprobs - inputs.inference_logprobs
        log_ratio = torch.where(inputs.loss_mask, difference, 0.0).detach()
        return cls(log_ratio, finite_exp(log_ratio), inputs.loss_mask)

    def geometric_mean(self) -> Tensor:
        """Return exp(mean l) of each sequence."""
        return finite_exp(self.log.sum(dim=1, keepdim=True) / self._num_tokens())

    def of_sequences(self, clip_high: float) -> Tensor:
        """Return each sequence's clipped ratio, shared equally among its counted tokens."""
        whole = self.log.sum(dim=1, keepdim=True).clamp(max=MAX_SEQUENCE_LOG_RATIO).exp()
        return whole.clamp(max=clip_high) / self._num_tokens()

    def _num_tokens(self) -> Tensor:
        return self.counted.sum(dim=1, keepdim=True).clamp(min=1)


@dataclass(frozen=True)
class _Outside:
    """Where a value leaves its interval."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, value: Tensor, low: float, high: float) -> _Outside:
        return cls(value < low, value > high)


@dataclass(frozen=True)
class _Masks:
    token: _Outside
    """Masks the token."""
    sequence: _Outside
    """Masks the whole sequence if any of its counted tokens is outside."""
    geo: _Outside
    """Masks the whole sequence, `[batch, 1]`."""

    def masked(self, counted: Tensor) -> Tensor:
        """Return the tokens that are masked out."""
        by_any_token = (counted & (self.sequence.low | self.sequence.high)).any(dim=1, keepdim=True)
        return self.token.low | self.token.high | by_any_token | self.geo.low | self.geo.high


def _towards_teacher(inputs: BatchLossInputs, tau: float) -> Tensor | float:
    """Return tau (log pi_teacher - log pi), without gradient."""
    if not tau:
        return 0.0
    assert inputs.teacher_logprobs is not None
    return tau * (inputs.teacher_logprobs - inputs.trainer_logprobs.detach())


def _outputs(inputs: BatchLossInputs, factor: Tensor, ratio: _Ratio, masks: _Masks) -> LossOutputs:
    """Return -factor * log pi at the tokens that no mask drops."""
    masked = masks.masked(ratio.counted)
    # Masked before the product: 0 times a factor that is infinite would be a gradient of NaN.
    kept = ratio.counted & ~masked
    per_token = -torch.where(kept, factor.detach(), 0.0) * inputs.trainer_logprobs
    return LossOutputs(torch.where(kept, per_token, 0.0), _metrics(ratio, masks, masked))


def _metrics(ratio: _Ratio, masks: _Masks, masked: Tensor) -> dict[str, Tensor | Mean | float]:
    mismatch_kl = k3(ratio.log)
    return {
        "mismatch_kl": Mean.over(mismatch_kl, ratio.counted),
        "masked_mismatch_kl": Mean.over(mismatch_kl, ratio.counted & masked),
        "unmasked_mismatch_kl": Mean.over(mismatch_kl, ratio.counted & ~masked),
        "is_masked": Mean.over(masked, ratio.counted),
        "is_masked_low": Mean.over(masks.token.low, ratio.counted),
        "is_masked_high": Mean.over(masks.token.high, ratio.counted),
        "geo_masked_low": Mean.of(masks.geo.low.squeeze(1).float()),
        "geo_masked_high": Mean.of(masks.geo.high.squeeze(1).float()),
    }
