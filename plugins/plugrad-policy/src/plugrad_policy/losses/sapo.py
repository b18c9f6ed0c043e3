"""SAPO: a smooth gate on the ratio instead of a clip (Qwen, arXiv:2511.20347)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss

Temperature = Annotated[float, Field(gt=0)]


@loss(needs={"old_logprobs"}, reduction="sequence", policy_gradient=True)
def sapo(inputs: BatchLossInputs, tau_pos: Temperature = 1.0, tau_neg: Temperature = 1.05) -> LossOutputs:
    """-(4 / tau) sigmoid(tau (r - 1)) A,  r = pi / pi_old,  tau = tau_pos where A > 0, else tau_neg.

    Its gradient is that of -r A times the gate 4 sigmoid(x) (1 - sigmoid(x)), x = tau (r - 1). The gate is 1 at r = 1
    and falls towards 0 on both sides.

    Args:
        tau_pos: how fast the gate closes where A > 0; the paper's.
        tau_neg: how fast the gate closes elsewhere; the paper's. It is the larger one, since a negative advantage
            raises all other tokens.

    Reports:
        gate: the mean gate over counted tokens.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    ratio = finite_exp(inputs.trainer_logprobs - inputs.old_logprobs)
    tau = torch.where(inputs.advantages > 0, ratio.new_tensor(tau_pos), ratio.new_tensor(tau_neg))
    opened = (tau * (ratio - 1)).sigmoid()
    per_token = -4 / tau * opened * inputs.advantages
    gate = 4 * opened * (1 - opened)
    return LossOutputs(per_token, {"gate": Mean.over(gate, inputs.loss_mask), "ratio": Mean.over(ratio, inputs.loss_mask)})
