"""CISPO: clip the importance weight, keep every token's gradient (MiniMax-M1, arXiv:2506.13585, eq. 4 and 5)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.surrogate import ClipRange

UpToOne = Annotated[float, Field(ge=0, le=1)]


@loss(needs={"old_logprobs"}, policy_gradient=True)
def cispo(inputs: BatchLossInputs, clip_low: UpToOne = 1.0, clip_high: ClipRange = 4.0) -> LossOutputs:
    """-sg(clip(r, 1 - clip_low, 1 + clip_high)) A log pi(t),  r = pi / pi_old.

    Args:
        clip_low: how far below 1 the weight may go. 1 means no lower bound, as in the paper's experiments.
        clip_high: how far above 1 the weight may go. The paper tunes it and gives no number. 4.0, a bound of 5, is the
            value that TRL and slime show. TRL's `epsilon_high` and Tinker's `clip_high_threshold` are the bound
            itself.

    Reports:
        clip_fraction: the share of counted tokens whose weight is clipped.
        ratio: the mean of r over counted tokens.
    """
    assert inputs.old_logprobs is not None
    ratio = finite_exp((inputs.trainer_logprobs - inputs.old_logprobs).detach())
    weight = ratio.clamp(1 - clip_low, 1 + clip_high)
    per_token = -weight * inputs.advantages * inputs.trainer_logprobs
    metrics = {"clip_fraction": Mean.over(weight != ratio, inputs.loss_mask), "ratio": Mean.over(ratio, inputs.loss_mask)}
    return LossOutputs(per_token, metrics)
