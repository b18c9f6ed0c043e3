"""PPO's clipped value loss: a critic must not run away from its old values (OpenAI Baselines, `ppo2`)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, loss


@loss(needs={"values", "old_values", "returns"}, policy_gradient=False)
def value_clip(inputs: BatchLossInputs, clip: Annotated[float, Field(gt=0)] = 0.2) -> LossOutputs:
    """1/2 max((V - R)^2, (V_old + clip(V - V_old, -clip, clip) - R)^2).

    Add it to a policy gradient with a weight, and to a run file with `[critic]`. The greater of the two errors counts, so
    the clip takes the gradient away only where the value has moved towards the return by more than `clip`. Whether that
    helps is doubtful (arXiv:2006.05990, section 3.4); `clip = inf` is half the squared error.

    Args:
        clip: how far a value may move from its old one, in the unit of rewards; that of Baselines, TRL and SkyRL. verl
            uses 0.5.

    Reports:
        clip_fraction: the share of counted tokens whose clipped error is the greater one. They have no gradient.
        error: the mean of (V - R)^2 over counted tokens.
        value: the mean of V over counted tokens.
        return: the mean of R over counted tokens.
    """
    assert inputs.values is not None
    assert inputs.old_values is not None
    assert inputs.returns is not None
    values, old, returns, counted = inputs.values, inputs.old_values, inputs.returns, inputs.loss_mask
    near = old + (values - old).clamp(-clip, clip)
    error, clipped_error = (values - returns).square(), (near - returns).square()
    metrics = {
        "clip_fraction": Mean.over(clipped_error > error, counted),
        "error": Mean.over(error, counted),
        "value": Mean.over(values, counted),
        "return": Mean.over(returns, counted),
    }
    return LossOutputs(0.5 * torch.maximum(error, clipped_error), metrics)
