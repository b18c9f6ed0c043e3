"""Statistics of the rewards."""

from __future__ import annotations

import torch

from plugrad.contracts.measures import Max, Mean, Measure, Min
from plugrad.contracts.metric import MetricInputs
from plugrad.formulas.residues import equal_rewards


def reward(inputs: MetricInputs) -> dict[str, Measure]:
    """Statistics of the batch's rewards as the environment scored them, before any extension changes them.

    Reports:
        mean: the mean.
        min: the minimum.
        max: the maximum.
        equal_groups: the share of groups whose rewards are all equal, up to the last digits of float32. With a group
            baseline they give no signal.
    """
    groups = [[rollout["reward"] for rollout in group] for group in inputs.rollouts]
    return {
        "mean": Mean.of(inputs.rewards),
        "min": Min(inputs.rewards.min()),
        "max": Max(inputs.rewards.max()),
        "equal_groups": Mean.of(float(equal_rewards(torch.tensor([group], dtype=torch.double))) for group in groups),
    }
