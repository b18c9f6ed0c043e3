"""PPO's objective in one loss: policy, value and entropy (arXiv:1707.06347, eq. 9), for a reward that a critic shapes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss

NotNegative = Annotated[float, Field(ge=0)]


@loss(needs={"old_logprobs", "values", "returns", "entropy"})
def reward_shaping(
    inputs: BatchLossInputs,
    clip: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    value_weight: NotNegative = 0.5,
    entropy_weight: NotNegative = 0.01,
) -> LossOutputs:
    """-min(r A, clip(r, 1 - clip, 1 + clip) A) + value_weight (V - R)^2 - entropy_weight H,  r = pi / pi_old.

    The same as tables `[[loss]]` with `ppo_clip`, a squared error and `entropy_bonus`, which may each have their own
    reduction. The shaping itself is the advantage's part: `gae` discounts r_t + gamma V_{t+1} - V_t, the reward shaped by
    the potential V, which moves no optimum (arXiv:1506.02438, section 5).

    It is the reward-shaping loss of NeMo RL's guide, where that is right. The guide draws new actions instead of taking
    those that earned the reward, fits values to rewards of the batch, and adds to the loss what it means to encourage:
    entropy, and the mean positive advantage, which has no gradient.

    Args:
        clip: PPO's.
        value_weight: 0.5 in the guide and OpenAI Baselines.
        entropy_weight: 0.01 in the guide and OpenAI Baselines.

    Reports:
        policy: the mean of the first term over counted tokens.
        error: the mean of (V - R)^2 over counted tokens.
        entropy: the mean of H over counted tokens, in nats.
        clip_fraction: the share of counted tokens that the clip decides.
    """
    assert inputs.old_logprobs is not None
    assert inputs.values is not None
    assert inputs.returns is not None
    assert inputs.entropy is not None
    advantages, counted = inputs.advantages, inputs.loss_mask
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    plain, clipped = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    policy, error = -torch.minimum(plain, clipped), (inputs.values - inputs.returns).square()
    metrics = {
        "policy": Mean.over(policy, counted),
        "error": Mean.over(error, counted),
        "entropy": Mean.over(inputs.entropy, counted),
        "clip_fraction": Mean.over(clipped < plain, counted),
    }
    return LossOutputs(policy + value_weight * error - entropy_weight * inputs.entropy, metrics)
