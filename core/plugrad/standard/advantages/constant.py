"""The same advantage for every token. It turns a policy-gradient loss into maximum likelihood."""

from __future__ import annotations

import torch

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.markers import advantage


@advantage(signal_from_equal_rewards=True)
def constant(inputs: AdvantageInputs, value: float = 1.0) -> AdvantageOutputs:
    """A_ij = value, independent of the reward.

    Args:
        value: the advantage of every token.
    """
    return AdvantageOutputs(torch.full_like(inputs.rewards, value, dtype=torch.double))
