"""REINFORCE++: rewards whitened over the whole batch, without groups (arXiv:2501.03262)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage
from plugrad_policy.advantages.whitening import Over, whitened


@advantage(mixes_groups=True)
def reinforce_plus_plus(
    inputs: AdvantageInputs, over: Over = "tokens", eps: Annotated[float, Field(gt=0)] = 1e-8
) -> AdvantageOutputs:
    """A_ij = (r_ij - mean r) / sqrt(var r + eps), over the batch of all ranks. It works with one rollout per example.

    The paper's per-token KL penalty is not part of it: add the loss `kl_to_reference`. A batch with equal rewards has
    an advantage of 0.

    Args:
        over: "tokens" computes mean and variance over all tokens of the batch, as in the paper, OpenRLHF and verl.
            "rollouts" counts each rollout once.
        eps: added to the variance. The default is verl's. OpenRLHF uses a variance of at least 1e-8.
    """
    return AdvantageOutputs(whitened(inputs.rewards.double(), inputs, over, eps))
