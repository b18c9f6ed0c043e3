"""KTO: learn from completions that are good or bad, without pairs (arXiv:2402.01306, eq. 8)."""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, LossOutputs, Mean, loss
from plugrad_objectives.losses.pairs import sequence_sums

NotNegative = Annotated[float, Field(ge=0)]


@loss(needs={"ref_logprobs"}, reduction="sequence_sum", policy_gradient=False, whole_batch=True)
def kto(
    inputs: BatchLossInputs,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    desirable_weight: NotNegative = 1.0,
    undesirable_weight: NotNegative = 1.0,
    labels: str = "labels",
) -> LossOutputs:
    """w_D sigmoid(beta (z - l)) where desirable, else w_U sigmoid(beta (l - z)),  l = log(pi / pi_ref) of a completion.

    This is lambda - v of the paper. The mean over the labelled completions. z is an estimate of KL(pi || pi_ref) over the
    whole batch: the mean of l over completions that belong to other prompts, at least 0 and without gradient. Such a
    completion has the label null. A batch without one has z = 0.

    Args:
        beta: the paper's, and TRL's.
        desirable_weight: the paper's lambda_D. With n_D desirable and n_U undesirable completions, it wants
            w_D n_D / (w_U n_U) between 1 and 4/3.
        undesirable_weight: the paper's lambda_U.
        labels: the column with a list of true, false and null, one for each of `references`. Without the column, the first
            completion of an example is desirable and the others are not.

    Reports:
        z: the estimate of the divergence, in nats.
        desirable_reward: the mean of beta l over desirable completions.
        undesirable_reward: the mean of beta l over undesirable completions.
    """
    assert inputs.ref_logprobs is not None
    log_ratios = sequence_sums(inputs.trainer_logprobs - inputs.ref_logprobs, inputs)
    good, bad, unpaired = _labelled(inputs, labels)
    z = (log_ratios[unpaired].sum() / unpaired.sum().clamp(min=1)).clamp(min=0).detach()
    gains = beta * (log_ratios - z)
    values = desirable_weight * good * torch.sigmoid(-gains) + undesirable_weight * bad * torch.sigmoid(gains)
    # The mean over all rows is then the mean over the labelled ones.
    share = len(values) / (good | bad).sum().clamp(min=1)
    metrics: dict[str, Mean | float] = {
        "z": float(z),
        "desirable_reward": Mean.over(beta * log_ratios, good),
        "undesirable_reward": Mean.over(beta * log_ratios, bad),
    }
    return LossOutputs(share * values, metrics)


def _labelled(inputs: BatchLossInputs, column: str) -> tuple[Bool[Tensor, "batch"], ...]:
    """Return the rows with the labels true, false and null, where anything counts."""
    assert inputs.metadata is not None
    assert inputs.member is not None
    found = [
        example[column][member] if column in example else member == 0
        for example, member in zip(inputs.metadata, inputs.member.tolist(), strict=True)
    ]
    counted = inputs.loss_mask.any(dim=1)

    def rows(where: list[bool]) -> Bool[Tensor, "batch"]:
        return counted & torch.tensor(where, device=counted.device)

    known = [label is not None for label in found]
    good = rows([bool(label) for label in found])
    return good, rows(known) & ~good, counted & ~rows(known)
