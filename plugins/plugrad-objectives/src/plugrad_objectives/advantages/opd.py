"""On-policy distillation as an advantage: how much likelier the teacher finds a token (arXiv:2601.02780)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage


@advantage(needs={"teacher_logprobs", "old_logprobs"}, signal_from_equal_rewards=True)
def opd(inputs: AdvantageInputs, reward_weight: Annotated[float, Field(ge=0)] = 0.0) -> AdvantageOutputs:
    """A_t = log pi_T(t) - log pi_old(t) + reward_weight (r - mean r),  the mean over the rollouts of the example.

    Its mean over what the policy samples is -KL(pi || pi_T), token by token. It works with any loss; `ppo_clip` bounds how
    far several updates on one batch go. Several teachers are `[model.teachers.NAME]`.

    Args:
        reward_weight: the paper's alpha. 0: the teacher alone decides, and rewards are not read.
    """
    assert inputs.teacher_logprobs is not None
    assert inputs.old_logprobs is not None
    rewards = inputs.rewards.double()
    centred = (reward_weight * (rewards - rewards.mean(dim=1, keepdim=True))).tolist()
    return AdvantageOutputs(
        [
            [theirs - own + reward for theirs, own, reward in zip(*group, strict=True)]
            for group in zip(inputs.teacher_logprobs, inputs.old_logprobs, centred, strict=True)
        ]
    )
