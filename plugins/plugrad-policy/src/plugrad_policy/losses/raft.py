"""RAFT and RAFT++: learn from the best completions of each prompt alone (arXiv:2304.06767; arXiv:2504.11343)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, finite_exp, loss
from plugrad_policy.losses.outcomes import correct, same_group
from plugrad_policy.losses.surrogate import ClipRange, clipped_surrogate


def _needs(options: Mapping[str, Any]) -> set[str]:
    return {"reward"} if options["clip_range"] is None else {"reward", "old_logprobs"}


@loss(needs=_needs, reduction="sequence", policy_gradient=False, whole_batch=True)
def raft(inputs: BatchLossInputs, clip_range: ClipRange | None = None, above: float = 0.5) -> LossOutputs:
    """-I log pi(t),  I = 1 where a completion's reward is the greatest of its group, and above `above`; else 0.

    With `clip_range` it is RAFT++: -I min(r, clip(r, 1 - clip_range, 1 + clip_range)),  r = pi / pi_old, which corrects
    for several updates per batch. Advantages are not used, and bad completions are left out. 2504.11343 finds that this
    is nearly as good as GRPO, most of whose gain comes from leaving out prompts that are never solved: `above` does so.
    2304.06767 keeps one completion of each prompt; here all that share the greatest reward are kept, as in 2504.11343.

    A group may be in several micro-batches, so the loss sees the whole batch (`whole_batch`). A completion that is left
    out contributes zero and stays in the denominator. Trinity-RFT's `raft` is cross-entropy on every completion that its
    data pipeline lets through.

    Args:
        clip_range: how far from 1 the ratio may go. RAFT++ has PPO's 0.2. By default there is no ratio.
        above: a completion is used only if its reward is greater. 0.5 fits rewards of 0 and 1 as well as of -1 and 1.

    Reports:
        is_used: the share of counted tokens with I = 1.
        nll: the mean of -log pi over them, in nats.
    """
    policy, counted = inputs.trainer_logprobs, inputs.loss_mask
    used = counted & correct(inputs, above) & best(inputs)
    per_token = -policy
    if clip_range is not None:
        assert inputs.old_logprobs is not None
        ratio = finite_exp(policy - inputs.old_logprobs)
        per_token = clipped_surrogate(ratio, torch.ones_like(ratio), low=clip_range, high=clip_range)
    metrics = {"is_used": Mean.over(used, counted), "nll": Mean.over(-policy, used)}
    return LossOutputs(torch.where(used, per_token, 0.0), metrics)


def best(inputs: BatchLossInputs) -> Bool[Tensor, "batch 1"]:
    """Return the sequences whose reward is the greatest of their group."""
    assert inputs.reward is not None
    greatest = torch.where(same_group(inputs), inputs.reward.unsqueeze(0), -torch.inf).amax(dim=1)
    return (inputs.reward == greatest).unsqueeze(1)
