"""DRO: a policy gradient with a quadratic pull towards the sampling policy (arXiv:2405.19107; Kimi k1.5, 2501.12599)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, loss
from plugrad_policy.losses.ratios import sequence_sum


@loss(reduction="sequence_sum")
def dro(
    inputs: BatchLossInputs,
    beta: Annotated[float, Field(ge=0)] = 0.05,
    level: Literal["sequence", "token"] = "sequence",
) -> LossOutputs:
    """-A log pi(t) + beta / 2 (log W) log r,  r = pi / mu,  W = product of r over the sequence.

    mu is the policy that sampled. Over a sequence this is -A log pi + beta / 2 (log W)^2, whose gradient is eq. 3 of Kimi
    k1.5. With A = reward - V it is, up to a constant and a factor, the squared error of DRO's identity r - V = beta log W.
    Nothing is clipped: the pull alone bounds the update, so that old samples and replayed ones can be learned from.

    The papers square the log-ratio of the whole sequence. Tinker's `dro` and Trinity-RFT's `k2` square each token's, which
    pulls far less on a long sequence: `level = "token"`.

    Args:
        beta: how strong the pull is. 0 is `reinforce`. 0.05 is the value in Tinker's documentation; the papers' depend on
            the task. Trinity-RFT's coefficient has no 1/2.
        level: what is squared: the log-ratio of the sequence, or of each token.

    Reports:
        log_ratio: the mean of log r over counted tokens, in nats.
        pull: the mean of the second term over counted tokens.
    """
    policy, counted = at_least_float32(inputs.trainer_logprobs), inputs.loss_mask
    # A product over a row would carry what stands in masked slots into the gradient of the others.
    log_ratio = torch.where(counted, policy - inputs.inference_logprobs, 0.0)
    other = log_ratio if level == "token" else sequence_sum(log_ratio, counted)
    pull = beta / 2 * other * log_ratio
    metrics = {"log_ratio": Mean.over(log_ratio, counted), "pull": Mean.over(pull, counted)}
    return LossOutputs(pull - inputs.advantages * policy, metrics)
