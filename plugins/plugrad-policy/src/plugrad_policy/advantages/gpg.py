"""GPG: reward minus its group's mean, scaled up for the groups that teach nothing (arXiv:2504.02546)."""

from __future__ import annotations

import torch

from plugrad import AdvantageInputs, AdvantageOutputs, advantage, equal_rewards


@advantage(min_rollouts_per_example=2, mixes_groups=True)
def gpg(inputs: AdvantageInputs) -> AdvantageOutputs:
    """A_ij = B / (B - M) (r_ij - mean_j r_ij),  of B groups, M of which have equal rewards.

    Groups whose completions are all right or all wrong have no advantage, but stay in the denominator of the loss. The
    factor takes them out of it, so that the step does not shrink as a task gets solved. The deviation is not divided by. It
    is the paper's accurate gradient estimate; to draw other examples in their place is a matter of the sampling.

    verl's `gpg` counts the rollouts with a reward of 0 as M, and all of them as B.
    """
    rewards = inputs.rewards.double()
    equal = equal_rewards(rewards)
    factor = len(rewards) / max(len(rewards) - int(equal.sum()), 1)
    return AdvantageOutputs(torch.where(equal, 0.0, factor * (rewards - rewards.mean(dim=1, keepdim=True))))
