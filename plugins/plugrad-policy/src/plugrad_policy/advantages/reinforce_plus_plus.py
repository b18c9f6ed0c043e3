"""Rewards whitened over the whole batch, without groups (REINFORCE++, arXiv:2501.03262)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage
from plugrad_policy.advantages.whitening import Over, whitened


@advantage(mixes_groups=True)
def reinforce_plus_plus(
    inputs: AdvantageInputs, over: Over = "tokens", eps: Annotated[float, Field(gt=0)] = 1e-8
) -> AdvantageOutputs:
    """A_ij = (r_ij - mean r) / sqrt(var r + eps), over the batch of all ranks. It works with one rollout an example.

    The paper's penalty on the KL of each token is left out: add the loss `kl_to_reference`. A batch with equal rewards has
    the advantage 0.

    Args:
        over: whether mean and variance count each token of the batch, as in the paper, OpenRLHF and verl, or each rollout.
        eps: added to the variance; the default is verl's. OpenRLHF has a variance of at least 1e-8.
    """
    return AdvantageOutputs(whitened(inputs.rewards, inputs, over, eps))
