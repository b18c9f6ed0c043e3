"""KL-Cov: preserve entropy with a KL penalty where log-prob and advantage covary most (arXiv:2505.22617)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.covariance import covariances, rounding
from plugrad_policy.losses.ties import greatest

Fraction = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]


@loss(needs={"old_logprobs"}, whole_batch=True)
def kl_cov(inputs: BatchLossInputs, fraction: Fraction = 2e-4, coefficient: NotNegative = 1.0) -> LossOutputs:
    """-r A, plus coefficient |log r| at the penalised tokens;  r = pi / pi_old.

    The covariance of a token is (A - mean A) (log pi - mean log pi), with means over the counted tokens of the whole
    batch (`whole_batch`). The penalised tokens are those with the largest covariance: `fraction` of the counted tokens,
    at least one. There is no clip. The penalty |log r| follows the authors' code; the paper writes KL(pi_old, pi).

    Args:
        fraction: the share of counted tokens to penalise. verl uses 2e-4, SkyRL 0.2.
        coefficient: the weight of the penalty. 1 is SkyRL's default. verl's configuration sets 0.1; its code falls
            back to 1 where the configuration says nothing.

    Reports:
        penalised_fraction: the share of counted tokens that are penalised.
        abs_log_ratio: the mean of |log r| over counted tokens.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    counted = inputs.loss_mask
    log_r = inputs.trainer_logprobs - inputs.old_logprobs
    number = max(int(fraction * int(counted.sum())), 1)
    chosen = greatest(covariances(inputs), counted, number, tolerance=rounding(inputs))
    per_token = -finite_exp(log_r) * inputs.advantages + torch.where(chosen, coefficient * log_r.abs(), 0.0)
    metrics = {
        "penalised_fraction": Mean.over(chosen, counted),
        "abs_log_ratio": Mean.over(log_r.abs(), counted),
        "ratio": Mean.over(finite_exp(log_r), counted),
    }
    return LossOutputs(per_token, metrics)
