"""Dr. GRPO: PPO's clip, over a denominator that no completion's length is in (arXiv:2503.20783)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, loss
from plugrad_policy.losses.ratios import log_ratio
from plugrad_policy.losses.surrogate import ClipRange, clipped_outputs


@loss(needs={"old_logprobs"}, reduction="constant", policy_gradient=True)
def dr_grpo(inputs: BatchLossInputs, clip_low: ClipRange = 0.2, clip_high: ClipRange = 0.2) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),  r = pi / pi_old.

    The name stands for the reduction: each token weighs 1 / (sequences * max_new_tokens), where GRPO's weighs
    1 / (sequences * tokens of its completion) and so favours short right answers and long wrong ones. Its advantages are not
    divided by the group's standard deviation: that is the advantage `group_mean`, not this loss.

    Args:
        clip_low: how far below 1 the ratio counts; PPO's default.
        clip_high: how far above 1 the ratio counts; PPO's default.

    Reports:
        clip_fraction: the share of counted tokens that the clip decides: they have no gradient.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    ratio = log_ratio(inputs.trainer_logprobs, inputs.old_logprobs).exp()
    return clipped_outputs(inputs, ratio, low=clip_low, high=clip_high)
