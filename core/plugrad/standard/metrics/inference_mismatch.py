"""Trainer-engine mismatch. If it is not near zero, the gradients belong to another policy than the one that sampled."""

from __future__ import annotations

import torch

from plugrad.contracts.measures import Max, Mean, Measure
from plugrad.contracts.metric import MetricInputs
from plugrad.formulas.ratios import finite_exp, k3


def inference_mismatch(inputs: MetricInputs) -> dict[str, Measure]:
    """r = pi / mu on the counted tokens, trainer over engine. Reports nothing for replayed completions.

    Reports:
        kl: KL(mu || pi) in nats with the k3 estimator, the mean of r - log r - 1.
        max_ratio: the greatest r.
    """
    if inputs.inference_logprobs is None:
        return {}
    log_ratio = torch.where(inputs.loss_mask, inputs.trainer_logprobs - inputs.inference_logprobs, 0.0)
    return {"kl": Mean.over(k3(log_ratio), inputs.loss_mask), "max_ratio": Max(finite_exp(log_ratio.max()))}
