"""The share of groups without a learning signal."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import Mean, Measure, MetricInputs, equal_rewards, no_signal


def dead_groups(inputs: MetricInputs, tolerance: Annotated[float, Field(ge=0)] = 1e-9) -> dict[str, Measure]:
    """The share of groups of rollouts without a signal.

    They cost as much as any other group. DAPO (arXiv:2503.14476) replaces them by sampling more.

    Args:
        tolerance: the largest advantage that counts as 0, since equal rewards may leave rounding errors. The default is
            that of core's metric `advantage`, so a group is dead if all its tokens count in `advantage/zero`.

    Reports:
        zero_advantages: the share of groups in which no counted token has an advantage.
        equal_rewards: the share of groups whose rewards, as the environment returned them, are all equal, up to
            the last digits of float32. It is the larger share if an extension or the advantage tells equal rewards apart.
    """
    silent = (no_signal(inputs.advantages, tolerance) | ~inputs.loss_mask).all(dim=1)
    sizes = [len(group) for group in inputs.rollouts]
    dead = [float(rows.all()) for rows in silent.cpu().split(sizes)]
    rewards = [torch.tensor([[rollout["reward"] for rollout in group]], dtype=torch.double) for group in inputs.rollouts]
    return {"zero_advantages": Mean.of(dead), "equal_rewards": Mean.of(float(equal_rewards(group)) for group in rewards)}
