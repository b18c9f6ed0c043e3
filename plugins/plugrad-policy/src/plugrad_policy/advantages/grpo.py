"""GRPO: reward minus its group's mean, divided by the group's standard deviation (arXiv:2402.03300, section 4.1.2)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from plugrad import AdvantageInputs, AdvantageOutputs, OptionError, advantage, equal_rewards


@advantage(min_rollouts_per_example=2)
def grpo(
    inputs: AdvantageInputs,
    leave_one_out: bool = False,
    unbiased: bool = True,
    eps: Annotated[float, Field(gt=0)] = 1e-6,
) -> AdvantageOutputs:
    """A_ij = (r_ij - mean_i) / (std_i + eps), over the rewards r_i1 ... r_in of the group.

    A group with equal rewards has an advantage of 0. To subtract the mean without dividing, use core's `group_mean`
    (Dr. GRPO).

    Args:
        leave_one_out: compute mean and standard deviation over the group's *other* rollouts. If their rewards are
            equal, the difference is not divided, as in NeMo RL. Dividing by `eps` alone would blow it up into the
            millions.
        unbiased: divide the sum of squares by n - 1. verl, TRL, slime and NeMo RL do so; the paper does not say.
        eps: added to the standard deviation. The default is that of verl and slime. TRL uses 1e-4.

    Raises:
        OptionError: there are too few rollouts for these options, for example for the unbiased standard deviation of
            one other rollout.
    """
    rewards = inputs.rewards.double()
    count = rewards.shape[1] - leave_one_out
    if count - unbiased < 1:
        raise OptionError(
            f"[advantage] 'grpo': each rollout is compared to {count}, too few for a standard deviation with these options. "
            "Raise rollouts_per_example, or set leave_one_out = false or unbiased = false."
        )
    # The rollouts that each rollout of a group is compared to: [rollouts_per_example, rollouts_per_example].
    peers = torch.ones(2 * [rewards.shape[1]], dtype=rewards.dtype, device=rewards.device)
    peers = peers - torch.eye(len(peers)).to(peers) * leave_one_out
    mean = rewards @ peers / count
    variance = ((rewards.unsqueeze(1) - mean.unsqueeze(2)).square() * peers).sum(dim=2) / (count - unbiased)
    std = variance.sqrt()
    scale = torch.where((std > eps) & ~_others_are_equal(rewards), std + eps, 1.0) if leave_one_out else std + eps
    return AdvantageOutputs(torch.where(equal_rewards(rewards), 0.0, (rewards - mean) / scale))


def _others_are_equal(rewards: Tensor) -> Tensor:
    """Return the rollouts whose group's other rewards are equal, `[num_examples, rollouts_per_example]`."""
    indices = range(rewards.shape[1])
    others = [rewards[:, [other for other in indices if other != index]] for index in indices]
    return torch.cat([equal_rewards(group) for group in others], dim=1)
