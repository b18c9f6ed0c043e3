"""The share of tokens outside the range in which PPO-style losses trust the ratio."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import Mean, Measure, MetricInputs, metric


@metric(needs={"old_logprobs"})
def clip(
    inputs: MetricInputs, low: Annotated[float, Field(ge=0)] = 0.2, high: Annotated[float, Field(ge=0)] = 0.2
) -> dict[str, Measure]:
    """The share of counted tokens with r = pi / pi_old outside a range, whatever the loss does with the ratio.

    All values are 0 in a batch's first update. A clipping loss reports fewer tokens: only those whose advantage pushes
    the ratio further out.

    Args:
        low: how far below 1 the range reaches. The default is PPO's (arXiv:1707.06347).
        high: how far above 1 the range reaches. The default is PPO's; DAPO uses 0.28.

    Reports:
        low: the share of tokens with r < 1 - low.
        high: the share of tokens with r > 1 + high.
        outside: the sum of both.
    """
    assert inputs.old_logprobs is not None
    ratio = torch.where(inputs.loss_mask, inputs.trainer_logprobs - inputs.old_logprobs, 0.0).exp()
    below, above = ratio < 1 - low, ratio > 1 + high
    return {
        "low": Mean.over(below, inputs.loss_mask),
        "high": Mean.over(above, inputs.loss_mask),
        "outside": Mean.over(below | above, inputs.loss_mask),
    }
