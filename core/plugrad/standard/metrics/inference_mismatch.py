"""How far the engine that sampled is from the trainer: near zero, or gradients are of another policy."""

from __future__ import annotations

import torch

from plugrad.contracts.measures import Max, Mean, Measure
from plugrad.contracts.metric import MetricInputs


def inference_mismatch(inputs: MetricInputs) -> dict[str, Measure]:
    """KL(mu || pi) by the k3 estimator, r - log r - 1 with r = pi / mu, and the largest r. Nothing of replayed ones."""
    if inputs.inference_logprobs is None:
        return {}
    log_ratio = torch.where(inputs.loss_mask, inputs.trainer_logprobs - inputs.inference_logprobs, 0.0)
    ratio = log_ratio.exp()
    return {"kl": Mean.over(ratio - log_ratio - 1, inputs.loss_mask), "max_ratio": Max(ratio.max())}
