"""A*-PO: regress the log-ratio to the reference on the optimal advantage (arXiv:2505.20686, section 3)."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, at_least_float32, loss
from plugrad_policy.losses.outcomes import same_group
from plugrad_policy.losses.ratios import sequence_sum

Positive = Annotated[float, Field(gt=0)]


@loss(needs={"reward", "ref_logprobs"}, reduction="sequence_sum", policy_gradient=False, whole_batch=True)
def a_star_po(
    inputs: BatchLossInputs, beta1: Positive = 0.5, beta2: Positive = 1e-3, column: str = "reference_rewards"
) -> LossOutputs:
    """(beta2 D - (r - V*))^2,  D = sum of log pi - log pi_ref,  V* = beta1 log mean exp(r' / beta1).

    r' are rewards of the reference model's completions of the same prompt. They are sampled once, before the training, and
    stand in a column of the example. Under a penalty of the KL divergence to the reference, V* is the value of the prompt
    and r - V* the advantage of the best policy, whose log-ratio to the reference is the advantage over the penalty. So a
    single completion per prompt is enough, and it may be old. Advantages are not used.

    For an example without the column, the rewards of its group in this batch take the place of r'. That is not the paper:
    they belong to the policy and not to the reference. The loss sees the whole batch (`whole_batch`) for that reason.

    Args:
        beta1: the temperature of V*; the authors' code and TRL's `a2po`.
        beta2: the strength of the KL penalty; same source.
        column: the column with the list of r'.

    Reports:
        v_star: the mean of V* over sequences.
        optimal_advantage: the mean of r - V* over sequences.
        from_group: the share of sequences whose example lacks the column.
    """
    assert inputs.ref_logprobs is not None
    assert inputs.reward is not None
    counted = inputs.loss_mask
    distance = sequence_sum(at_least_float32(inputs.trainer_logprobs) - inputs.ref_logprobs, counted)
    value, lacking = optimal_values(inputs, beta1, column)
    advantage = (inputs.reward - value).to(distance).unsqueeze(1)
    squared = (beta2 * distance - advantage).square()
    metrics = {
        "v_star": Mean.of(value),
        "optimal_advantage": Mean.of(advantage),
        "from_group": Mean.of(lacking.double()),
    }
    share = counted.sum(dim=1, keepdim=True).clamp(min=1)
    return LossOutputs((squared / share).expand(counted.shape), metrics)


def optimal_values(
    inputs: BatchLossInputs, beta: float, column: str
) -> tuple[Float[Tensor, "batch"], Bool[Tensor, "batch"]]:
    """Return V* of each sequence's prompt, and which examples lack the column."""
    assert inputs.reward is not None
    found = [example.get(column) for example in inputs.metadata or [{}] * len(inputs.reward)]
    of_group = [inputs.reward[members] for members in same_group(inputs)]
    rewards = [of_group[i] if given is None else inputs.reward.new_tensor(given) for i, given in enumerate(found)]
    values = [beta * ((each / beta).logsumexp(0) - torch.tensor(len(each)).log()) for each in rewards]
    lacking = torch.tensor([given is None for given in found], device=inputs.reward.device)
    return torch.stack(values).to(inputs.reward), lacking
