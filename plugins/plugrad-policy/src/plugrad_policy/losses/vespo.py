"""VESPO: a smooth weight on the whole sequence's ratio, without length normalisation (arXiv:2602.10693)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.ratios import sequence_sum

Positive = Annotated[float, Field(gt=0)]
MIN_LOG_WEIGHT, MAX_LOG_WEIGHT = math.log(1e-8), 20.0


@loss(policy_gradient=True)
def vespo(
    inputs: BatchLossInputs,
    k_pos: Positive = 2.0,
    lambda_pos: Positive = 3.0,
    k_neg: Positive = 3.0,
    lambda_neg: Positive = 2.0,
) -> LossOutputs:
    """-sg(phi(W)) A log pi(t),  phi(W) = W^k exp(lambda (1 - W)),  W = product of pi / mu over the sequence.

    mu is the policy that sampled. phi is 1 at W = 1, peaks at W = k / lambda and falls to 0 on both sides. k and
    lambda are k_pos and lambda_pos where A >= 0, else k_neg and lambda_neg.

    The reduction and the bounds of log W, [log 1e-8, 20], are TRL's. TRL's W is a ratio to the old policy and includes
    the engine's mismatch when its correction is on. This W includes it too, as a ratio to the engine's log-probs.

    Args:
        k_pos: the power of W where A >= 0. All four defaults are TRL's.
        lambda_pos: how fast the weight falls with W where A >= 0.
        k_neg: the power of W where A < 0.
        lambda_neg: how fast the weight falls with W where A < 0.

    Reports:
        phi: the mean of phi(W) over sequences, weighted by their tokens.
    """
    policy, counted = inputs.trainer_logprobs, inputs.loss_mask
    token_log_ratio = (policy - inputs.inference_logprobs).detach()
    log_w = sequence_sum(token_log_ratio, counted).clamp(MIN_LOG_WEIGHT, MAX_LOG_WEIGHT)
    raised = finite_exp(k_pos * log_w + lambda_pos * (1 - log_w.exp()))
    lowered = finite_exp(k_neg * log_w + lambda_neg * (1 - log_w.exp()))
    phi = torch.where(inputs.advantages >= 0, raised, lowered)
    return LossOutputs(-phi * inputs.advantages * policy, {"phi": Mean.over(phi, counted)})
