"""`mismatch_correction`: weight each token by its trainer probability over its engine probability."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, Mean, Measure, MetricInputs, OptionError, hookimpl

GREATEST_LOG_WEIGHT = 20.0
"""Beyond e^20 the product of a sequence's ratios is noise and soon infinite. The bound is verl's."""


class MismatchCorrection:
    """A_t <- w A_t, with the importance weight w of the trainer over the engine; for any loss that is linear in A.

    ::

        rho_t = pi_old(t) / mu(t)
        w     = rho_t (token),  prod_t rho_t (sequence),  (prod_t rho_t)^(1 / tokens) (geometric)

    pi_old is `old_logprobs` if the loss needs them, else the policy of this update. The weight carries no gradient. A
    dropped token contributes nothing to any loss; denominators stay. A loss that already contains pi / mu, such as
    `importance_sampling`, would be corrected twice. For such a loss use `mode = "reject"`, or leave this extension out.

    ================= ============ ============ ====== ====== =============================================
    known as          level        mode         low    high
    ================= ============ ============ ====== ====== =============================================
    TIS (the default) token        truncate     0      2      Yao et al. 2025; verl's cap
    IcePop            token        mask         0.5    5      Ring-1T, arXiv:2510.18855
    sequence TIS      sequence     truncate     0      2      verl's cap
    sequence MIS      sequence     mask         0      3      TRL's default
    geometric RS      geometric    reject       0.99   1.01   verl, with `veto_below = 1e-4`
    ================= ============ ============ ====== ====== =============================================

    Args:
        level: what a weight covers. Only "sequence" is unbiased; its variance grows with the length. The "geometric"
            mean does not depend on the length. It measures mismatch and is not an importance weight.
        mode: what to do outside [low, high]. "truncate" clamps the weight to the nearer bound. "mask" drops the token.
            "reject" drops the token and gives the others a weight of 1.
        low: the smallest weight.
        high: the largest weight.
        veto_below: drop the whole sequence if any token has rho_t below this value, at every level. The trainer would
            hardly ever have sampled such a token. There is no veto by default; verl and slime use 1e-4.

    Reports:
        weight: the mean of w over counted tokens, before the bounds; near 1 if trainer and engine agree.
        outside: the share of counted tokens whose w is outside [low, high].
        dropped: the share of counted tokens that were dropped.

    With several losses, each number covers all of them.
    """

    def __init__(
        self,
        level: Literal["token", "sequence", "geometric"] = "token",
        mode: Literal["truncate", "mask", "reject"] = "truncate",
        low: Annotated[float, Field(ge=0)] = 0.0,
        high: Annotated[float, Field(gt=0)] = 2.0,
        veto_below: Annotated[float, Field(gt=0)] | None = None,
    ) -> None:
        if low >= high:
            raise OptionError(f"[extension] 'mismatch_correction': low is {low} and high is {high}. low must be below high.")
        self._level = level
        self._mode = mode
        self._low = low
        self._high = high
        self._veto_below = veto_below
        self._measured: dict[str, Mean] = {}

    @hookimpl(wrapper=True)
    def prepare_loss(self, inputs: BatchLossInputs) -> Generator[None, BatchLossInputs, BatchLossInputs]:
        """Multiply the advantages by the weights, and drop tokens."""
        prepared = yield
        log_ratio = _log_ratio(prepared)
        weight = self._weight(log_ratio, prepared.loss_mask)
        inside = (weight >= self._low) & (weight <= self._high)
        kept = self._kept(log_ratio, inside, prepared.loss_mask)
        self._note("weight", Mean.over(weight, prepared.loss_mask))
        self._note("outside", Mean.over(~inside, prepared.loss_mask))
        self._note("dropped", Mean.over(~kept, prepared.loss_mask))
        return replace(prepared, advantages=prepared.advantages * self._bounded(weight), loss_mask=kept)

    @hookimpl(wrapper=True)
    def compute_metrics(self, inputs: MetricInputs) -> Generator[None, Mapping[str, Measure], Mapping[str, Measure]]:
        """Add the measures collected since the last report."""
        measures = yield
        measured, self._measured = self._measured, {}
        return {**measures, **measured}

    def _weight(self, log_ratio: Tensor, loss_mask: Tensor) -> Tensor:
        """Return w `[batch, seq]`, before the bounds."""
        if self._level != "token":
            total = log_ratio.sum(dim=1, keepdim=True)
            count = loss_mask.sum(dim=1, keepdim=True).clamp(min=1) if self._level == "geometric" else 1
            log_ratio = (total / count).expand_as(log_ratio)
        return log_ratio.clamp(-GREATEST_LOG_WEIGHT, GREATEST_LOG_WEIGHT).exp()

    def _bounded(self, weight: Tensor) -> Tensor:
        if self._mode == "reject":
            return torch.ones_like(weight)
        return weight.clamp(self._low, self._high)

    def _kept(self, log_ratio: Tensor, inside: Tensor, loss_mask: Tensor) -> Tensor:
        """Return the tokens that still count, or `loss_mask` itself if nothing can be dropped, which saves a copy."""
        kept = loss_mask if self._mode == "truncate" else loss_mask & inside
        if self._veto_below is None:
            return kept
        return kept & ~(log_ratio < math.log(self._veto_below)).any(dim=1, keepdim=True)

    def _note(self, name: str, measure: Mean) -> None:
        name = f"mismatch_correction/{name}"
        self._measured[name] = self._measured[name] + measure if name in self._measured else measure


def _log_ratio(inputs: BatchLossInputs) -> Tensor:
    """Return log rho `[batch, seq]`, with 0 at tokens that do not count."""
    trainer = inputs.trainer_logprobs if inputs.old_logprobs is None else inputs.old_logprobs
    return torch.where(inputs.loss_mask, trainer.detach() - inputs.inference_logprobs, 0.0)
