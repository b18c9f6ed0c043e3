"""GLM-5's double-sided importance sampling: weigh a token by its ratio to the engine, or mask it (arXiv:2602.15763)."""

from __future__ import annotations

import torch

from plugrad import BatchLossInputs, LossOutputs, Mean, loss
from plugrad_policy.losses.cispo import UpToOne
from plugrad_policy.losses.ratios import log_ratio
from plugrad_policy.losses.surrogate import ClipRange


@loss(policy_gradient=True)
def rollout_is(inputs: BatchLossInputs, clip_low: UpToOne = 0.2, clip_high: ClipRange = 0.28) -> LossOutputs:
    """-sg(f(r)) A log pi(t),  r = pi / mu,  f(r) = r where 1 - clip_low < r < 1 + clip_high, else 0  (eq. 3 to 5).

    mu is what the engine reported as it sampled, so that no policy of the past has to be kept: for completions that several
    versions of the policy wrote. The stop-gradient is not printed in eq. 3; it is read as a weighted policy gradient, as
    others do.

    Args:
        clip_low: how far below 1 the ratio may be. The report gives no number for its agents; this is that of its reasoning
            RL.
        clip_high: how far above 1 the ratio may be; likewise.

    Reports:
        is_masked: the share of counted tokens outside the bounds.
        ratio: the mean of r over counted tokens.
    """
    ratio = log_ratio(inputs.trainer_logprobs, inputs.inference_logprobs).detach().exp()
    kept = (ratio > 1 - clip_low) & (ratio < 1 + clip_high)
    per_token = -torch.where(kept, ratio, 0.0) * inputs.advantages * inputs.trainer_logprobs
    return LossOutputs(
        per_token, {"is_masked": Mean.over(~kept, inputs.loss_mask), "ratio": Mean.over(ratio, inputs.loss_mask)}
    )
