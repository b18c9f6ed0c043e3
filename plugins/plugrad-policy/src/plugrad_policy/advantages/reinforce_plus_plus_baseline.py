"""Reward minus the mean of its group, whitened over the whole batch (REINFORCE++ with baseline, arXiv:2501.03262)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import AdvantageInputs, AdvantageOutputs, advantage
from plugrad_policy.advantages.whitening import Over, whitened


@advantage(min_rollouts_per_example=2, mixes_groups=True)
def reinforce_plus_plus_baseline(
    inputs: AdvantageInputs, over: Over = "tokens", eps: Annotated[float, Field(gt=0)] = 1e-8
) -> AdvantageOutputs:
    """A_ij = (d_ij - mean d) / sqrt(var d + eps),  d_ij = r_ij - mean_j r_ij, over the batch of all ranks.

    The paper's penalty on the KL is a loss here: add `kl_to_reference` with its `estimator = "k2"`. Counted in tokens, the
    mean of d need not be 0, so that a group with equal rewards has a small advantage where the lengths of others differ.

    Args:
        over: whether mean and variance count each token of the batch, as in the paper, OpenRLHF and verl, or each rollout.
        eps: added to the variance; the default is verl's. OpenRLHF has a variance of at least 1e-8.
    """
    difference = inputs.rewards - inputs.rewards.mean(dim=1, keepdim=True)
    return AdvantageOutputs(whitened(difference, inputs, over, eps))
