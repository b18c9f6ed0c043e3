"""The same advantage for every token: with it, a policy-gradient loss is maximum likelihood."""

from __future__ import annotations

import torch

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.markers import advantage


@advantage(signal_from_equal_rewards=True)
def constant(inputs: AdvantageInputs, value: float = 1.0) -> AdvantageOutputs:
    """A_ij = value, whatever the reward.

    Args:
        value: the advantage of every token.
    """
    return AdvantageOutputs(torch.full_like(inputs.rewards, value))
