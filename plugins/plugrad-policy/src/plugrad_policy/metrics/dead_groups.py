"""The share of groups without a learning signal."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import Mean, Measure, MetricInputs


def dead_groups(inputs: MetricInputs, tolerance: Annotated[float, Field(ge=0)] = 1e-6) -> dict[str, Measure]:
    """The share of groups of rollouts without a signal.

    They cost as much as any other group. DAPO (arXiv:2503.14476) replaces them by sampling more.

    Args:
        tolerance: the largest advantage that counts as 0, since equal rewards leave rounding errors.

    Reports:
        zero_advantages: the share of groups in which no counted token has an advantage.
        equal_rewards: the share of groups whose rewards, as the environment returned them, are all equal. It is the
            larger share if an extension or the advantage tells equal rewards apart.
    """
    largest = torch.where(inputs.loss_mask, inputs.advantages.abs(), 0.0).amax(dim=1)
    sizes = [len(group) for group in inputs.rollouts]
    silent = [bool(rows.max() <= tolerance) for rows in largest.cpu().split(sizes)]
    equal = [len({rollout["reward"] for rollout in group}) == 1 for group in inputs.rollouts]
    return {"zero_advantages": Mean.of(map(float, silent)), "equal_rewards": Mean.of(map(float, equal))}
