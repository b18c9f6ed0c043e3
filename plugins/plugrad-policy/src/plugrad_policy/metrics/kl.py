"""KL divergence of the policy to the engine, to the policy before the update, and to the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from plugrad import Mean, Measure, MetricInputs, k3, metric

Other = Literal["inference", "old", "reference"]
NEEDS = {"old": "old_logprobs", "reference": "ref_logprobs"}


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {NEEDS[other] for other in options["against"] if other in NEEDS}


@metric(needs=_needs)
def kl(inputs: MetricInputs, against: tuple[Other, ...] = ("inference",)) -> dict[str, Measure]:
    """Estimates of the KL divergence, in nats per token, from the sampled tokens (Schulman 2020).

    ::

        k1 = -log r,  k3 = r - 1 - log r        their means are KL(x || y) of tokens sampled from x, with r = y / x
        inference: KL(mu || pi)     old: KL(pi_old || pi)     reference: KL(pi || pi_ref)

    k1 is unbiased and may be negative. k3 is unbiased and never negative, and has less variance where r is near 1. A
    single token with a large r can dominate it. The estimates are exact only as far as the tokens are samples of x.

    Args:
        against: which policies to compare with. "reference", and "old" with several updates per batch, cost a forward
            pass unless a loss already needs them.

    Reports:
        inference_k1, inference_k3: trainer-engine mismatch; absent if completions were replayed.
        old_k1, old_k3: the effect of earlier updates on this batch; 0 before the first.
        reference_k1, reference_k3: the distance from the reference.
    """
    own = inputs.trainer_logprobs
    pairs = {
        "inference": (inputs.inference_logprobs, own),
        "old": (inputs.old_logprobs, own),
        "reference": (own, inputs.ref_logprobs),
    }
    measures: dict[str, Measure] = {}
    for other in against:
        sampled, scored = pairs[other]
        if sampled is not None and scored is not None:
            measures |= _estimates(other, scored - sampled, inputs.loss_mask)
    return measures


def _estimates(other: Other, log_ratio: Tensor, loss_mask: Tensor) -> dict[str, Measure]:
    log_ratio = torch.where(loss_mask, log_ratio, 0.0)
    return {
        f"{other}_k1": Mean.over(-log_ratio, loss_mask),
        f"{other}_k3": Mean.over(k3(log_ratio), loss_mask),
    }
