"""Policy gradient of pass@k: each rollout against sets without it (arXiv:2503.19595; arXiv:2505.15201, eq. 33)."""

from __future__ import annotations

from math import comb
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, OptionError, advantage, equal_rewards


@advantage(min_rollouts_per_example=2)
def passk(inputs: AdvantageInputs, k: Annotated[int, Field(ge=2)] | None = None) -> AdvantageOutputs:
    """A_ij = k mean_J max(r_ij - max_{l in J} r_il, 0), over the sets J of k - 1 other rollouts of the example.

    For rewards of 0 and 1 with c successes among n, a success gets k C(n-c, k-1) / C(n-1, k-1) and a failure 0. It
    gives an unbiased gradient of the probability that at least one of k rollouts succeeds. For other rewards it is the
    gradient of the expected maximum of k. It is never negative, and a success that others would replace earns nothing.
    For k = 1 use `rloo`.

    With k = n it is the leave-one-out advantage of arXiv:2503.19595, n times verl's `grpo_passk` without a
    standard deviation. The factor is k and not k / n because the papers sum over an example's rollouts, while the
    reduction `sequence_sum` averages.

    Args:
        k: how many attempts form one set; by default all rollouts of an example.

    Raises:
        OptionError: an example has fewer than k rollouts.
    """
    rewards = inputs.rewards.double()
    num_rollouts = rewards.shape[1]
    size = num_rollouts if k is None else k
    if size > num_rollouts:
        raise OptionError(
            f"[advantage] 'passk': k is {size}, but each example has {num_rollouts} rollouts. Raise rollouts_per_example."
        )
    leads = torch.stack([_lead_over_others(rewards, j, size) for j in range(num_rollouts)], dim=1)
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, size * leads))


def _lead_over_others(rewards: Tensor, index: int, size: int) -> Tensor:
    """Return by how much one rollout of each group leads `size - 1` others, averaged over all such sets."""
    num_others = rewards.shape[1] - 1
    others = torch.cat([rewards[:, :index], rewards[:, index + 1 :]], dim=1).sort(dim=1).values
    # The m-th smallest is the maximum of a set if the rest of the set is among the m below it.
    chances = [comb(m, size - 2) / comb(num_others, size - 1) for m in range(num_others)]
    lead = (rewards[:, index : index + 1] - others).clamp(min=0)
    return (lead * rewards.new_tensor(chances)).sum(dim=1)
