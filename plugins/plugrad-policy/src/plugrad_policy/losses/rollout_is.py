"""GLM-5's double-sided importance sampling: weight a token by its engine ratio or mask it (arXiv:2602.15763)."""

from __future__ import annotations

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.cispo import UpToOne
from plugrad_policy.losses.surrogate import ClipRange


@loss(policy_gradient=True)
def rollout_is(inputs: BatchLossInputs, clip_low: UpToOne = 0.2, clip_high: ClipRange = 0.28) -> LossOutputs:
    """-sg(f(r)) A log pi(t),  r = pi / mu,  f(r) = r where 1 - clip_low < r < 1 + clip_high, else 0  (eq. 3 to 5).

    mu is the probability that the engine reported while sampling, so no past policy has to be kept. That suits
    completions written by several versions of the policy. Eq. 3 prints no stop-gradient; this is a weighted policy
    gradient, which is how others read it.

    Args:
        clip_low: how far below 1 the ratio may be. The report gives no number for its agents; this is the value of its
            reasoning RL.
        clip_high: how far above 1 the ratio may be; same source.

    Reports:
        is_masked: the share of counted tokens outside the bounds.
        ratio: the mean of r over counted tokens.
    """
    ratio = finite_exp((inputs.trainer_logprobs - inputs.inference_logprobs).detach())
    kept = (ratio > 1 - clip_low) & (ratio < 1 + clip_high)
    per_token = -torch.where(kept, ratio, 0.0) * inputs.advantages * inputs.trainer_logprobs
    return LossOutputs(
        per_token, {"is_masked": Mean.over(~kept, inputs.loss_mask), "ratio": Mean.over(ratio, inputs.loss_mask)}
    )
