"""How many tokens have left the range in which PPO and its kin trust the ratio."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import Mean, Measure, MetricInputs, metric


@metric(needs={"old_logprobs"})
def clip(
    inputs: MetricInputs, low: Annotated[float, Field(ge=0)] = 0.2, high: Annotated[float, Field(ge=0)] = 0.2
) -> dict[str, Measure]:
    """r = pi / pi_old on the counted tokens, whatever the loss does with it. All are 0 in a batch's first update.

    A loss that clips reports the tokens that its clip decides: of these, those whose advantage pushes further out.

    Args:
        low: how far below 1 the range reaches; the default is PPO's (arXiv:1707.06347).
        high: how far above 1 it reaches; the default is PPO's. DAPO has 0.28.

    Reports:
        low: the share of tokens with r < 1 - low.
        high: the share of tokens with r > 1 + high.
        outside: both.
    """
    assert inputs.old_logprobs is not None
    ratio = torch.where(inputs.loss_mask, inputs.trainer_logprobs - inputs.old_logprobs, 0.0).exp()
    below, above = ratio < 1 - low, ratio > 1 + high
    return {
        "low": Mean.over(below, inputs.loss_mask),
        "high": Mean.over(above, inputs.loss_mask),
        "outside": Mean.over(below | above, inputs.loss_mask),
    }
