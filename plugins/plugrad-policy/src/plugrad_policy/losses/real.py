"""REAL: rewards as labels, a classification of the group's completions (arXiv:2602.05630)."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, loss
from plugrad_policy.losses.outcomes import correct, same_group
from plugrad_policy.losses.ratios import sequence_mean


@loss(needs={"old_logprobs", "reward"}, reduction="group", policy_gradient=False, whole_batch=True)
def real(inputs: BatchLossInputs, tau: Annotated[float, Field(gt=0)] = 0.5, above: float = 0.5) -> LossOutputs:
    """log(1 + sum over correct of exp(-s / tau)) + log(1 + sum over wrong of exp(s / tau)), over the completions of a group.

    s is a completion's mean of log pi - log pi_old, the logit of a classifier whose label is the reward. The weight of a
    completion is at most 1 / tau. In GRPO, good completions that the policy finds unlikely move little, and a wrong one
    that it likes outweighs its group. Advantages are not used, and a group without a wrong or a correct completion still
    teaches. The loss sees the whole batch (`whole_batch`), since a group may be in several micro-batches.

    With the reduction `group` it is the mean over groups, as in the paper and ms-swift.

    Args:
        tau: how soft the decision is; ms-swift's default.
        above: a completion with a greater reward is correct. 0.5 fits rewards of 0 and 1 as well as of -1 and 1.

    Reports:
        accuracy: the share of completions whose s has the sign of their label.
        is_correct: the share of completions that are correct.
    """
    assert inputs.old_logprobs is not None
    counted, label = inputs.loss_mask, correct(inputs, above)
    logit = sequence_mean(at_least_float32(inputs.trainer_logprobs) - inputs.old_logprobs, counted)
    told, same = counted.any(dim=1), same_group(inputs)
    exponent = (torch.where(label, -logit, logit) / tau).squeeze(1)
    term = sum(softplus_sum(exponent, same & (label.squeeze(1) == value) & told) for value in (True, False))
    metrics = {
        "accuracy": Mean.over((exponent < 0) & told, told),
        "is_correct": Mean.over(label.squeeze(1), told),
    }
    assert isinstance(term, Tensor)
    return LossOutputs(term.unsqueeze(1).expand(counted.shape), metrics)


def softplus_sum(exponents: Float[Tensor, "batch"], chosen: Bool[Tensor, "batch batch"]) -> Float[Tensor, "batch"]:
    """Return for each row log(1 + sum of exp(x) over the rows chosen for it)."""
    terms = torch.where(chosen, exponents, -torch.inf)
    return torch.nn.functional.pad(terms, (1, 0)).logsumexp(dim=1)
