"""Focal loss: cross-entropy that leaves alone what the model already knows (arXiv:1708.02002, eq. 4)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, loss

LEAST = 1e-30
"""Below it, the slope of a power below 1 would be infinite."""


@loss(policy_gradient=False)
def focal(inputs: BatchLossInputs, gamma: Annotated[float, Field(ge=0)] = 2.0) -> LossOutputs:
    """-(1 - pi)^gamma log pi, at each token; the gradient is that of both factors.

    With gamma = 0 it is core's `cross_entropy`. The paper's alpha, a weight for each class, is a table `[[loss]]` with
    `weight` and `where` here.

    Args:
        gamma: how fast tokens that the model knows lose their weight; the paper's.

    Reports:
        weight: the mean of (1 - pi)^gamma over counted tokens.
        nll: the mean of -log pi over counted tokens, in nats.
    """
    logprobs = at_least_float32(inputs.trainer_logprobs)
    weight = (-logprobs.expm1()).clamp(min=LEAST) ** gamma
    metrics = {"weight": Mean.over(weight, inputs.loss_mask), "nll": Mean.over(-logprobs, inputs.loss_mask)}
    return LossOutputs(-weight * logprobs, metrics)
