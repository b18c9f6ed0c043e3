"""Reward minus a mean, over a deviation, each over the group, the batch or neither (the grid of arXiv:2508.08221)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, OptionError, advantage, equal_rewards

Level = Literal["group", "batch", "none"]


@advantage(mixes_groups=True, signal_from_equal_rewards=True)
def normalized(
    inputs: AdvantageInputs, mean: Level = "group", std: Level = "batch", eps: Annotated[float, Field(gt=0)] = 1e-6
) -> AdvantageOutputs:
    """A_ij = (r_ij - mean r) / (std r + eps),  the mean and the unbiased standard deviation each over a level.

    ========= ========= ==========================================================
    mean      std       known as
    ========= ========= ==========================================================
    group     group     `grpo`; TRL's `scale_rewards = "group"`
    group     batch     `lite_ppo`; TRL's `scale_rewards = "batch"`
    group     none      `group_mean` (Dr. GRPO); TRL's `scale_rewards = "none"`
    batch     batch     `reinforce_plus_plus` with `over = "rollouts"`
    none      none      the raw reward, for `reinforce`
    ========= ========= ==========================================================

    Where the rewards of the level of the mean are equal, the advantage is 0. Where those of the level of the deviation are,
    it is not divided.

    Args:
        mean: whose mean is subtracted.
        std: whose standard deviation divides.
        eps: added to the standard deviation. The default is verl's and slime's; TRL uses 1e-4.

    Raises:
        OptionError: a single rollout per example has no deviation in its group.
    """
    rewards = inputs.rewards.double()
    if std == "group" and rewards.shape[1] < 2:
        raise OptionError(
            "[advantage] 'normalized': std = \"group\" and each example has one rollout. Raise rollouts_per_example, or set "
            'std to "batch" or "none".'
        )
    centred = rewards
    if mean != "none":
        centred = torch.where(equal_at(rewards, mean), 0.0, rewards - at(rewards, mean).mean(dim=1, keepdim=True))
    if std == "none":
        return AdvantageOutputs(centred)
    scale = at(rewards, std).std(dim=1, keepdim=True) + eps
    return AdvantageOutputs(centred / torch.where(equal_at(rewards, std), 1.0, scale))


def at(rewards: Float[Tensor, "groups rollouts"], level: Level) -> Float[Tensor, "rows columns"]:
    """Return the rewards with one row for each set of them: the groups, or the batch."""
    return rewards if level == "group" else rewards.reshape(1, -1)


def equal_at(rewards: Float[Tensor, "groups rollouts"], level: Level) -> Bool[Tensor, "rows 1"]:
    """Return whose rewards are equal but for rounding."""
    return equal_rewards(at(rewards, level))
