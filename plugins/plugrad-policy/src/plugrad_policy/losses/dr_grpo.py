"""Dr. GRPO: PPO's clip with a denominator that does not depend on completion lengths (arXiv:2503.20783)."""

from __future__ import annotations

from plugrad import BatchLossInputs, LossOutputs, finite_exp, loss
from plugrad_policy.losses.surrogate import ClipRange, clipped_outputs


@loss(needs={"old_logprobs"}, reduction="constant", policy_gradient=True)
def dr_grpo(inputs: BatchLossInputs, clip_low: ClipRange = 0.2, clip_high: ClipRange = 0.2) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A),  r = pi / pi_old.

    The reduction makes the difference: each token weighs 1 / (sequences * max_new_tokens). In GRPO it weighs 1 /
    (sequences * tokens of its completion), which favours short right answers and long wrong ones. Dr. GRPO also does
    not divide advantages by the group's standard deviation. That part is the advantage `group_mean`, not this loss.

    Args:
        clip_low: how far below 1 the ratio may go; PPO's default.
        clip_high: how far above 1 the ratio may go; PPO's default.

    Reports:
        clip_fraction: the share of counted tokens that the clip decides. They have no gradient.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    return clipped_outputs(inputs, ratio, low=clip_low, high=clip_high)
