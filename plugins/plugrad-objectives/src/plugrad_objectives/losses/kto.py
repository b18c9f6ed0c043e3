"""KTO: learn from completions that are good or bad, without pairs (arXiv:2402.01306, eq. 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from plugrad import BatchLossInputs, DataError, LossOutputs, Mean, loss
from plugrad_objectives.losses.pairs import sequence_sums

NotNegative = Annotated[float, Field(ge=0)]


def _check_labels(example: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    column = options["labels"]
    if column not in example:
        return
    labels, references = example[column], example.get("references", [None])
    if not isinstance(labels, list | tuple):
        raise DataError(f"its column {column!r} is {labels!r}. {_WANTED}")
    if isinstance(references, list | tuple) and len(labels) != len(references):
        raise DataError(f"its column {column!r} has {len(labels)}, and `references` {len(references)}. {_WANTED}")
    for place in range(len(labels)):
        _label(example, place, column)


def _label(example: Mapping[str, Any], place: int, column: str) -> bool | None:
    """Return the label of the completion at this place among the references."""
    if column not in example:
        return place == 0
    labels = example[column]
    if not isinstance(labels, list | tuple) or place >= len(labels):
        raise DataError(f"{labels!r} in the column {column!r} is no label of completion {place}. {_WANTED}")
    label = labels[place]
    if label is not None and label not in (0, 1):
        raise DataError(f"its column {column!r} has the label {label!r}. {_WANTED}")
    return None if label is None else bool(label)


_WANTED = "Labels are a list of true, false and null, one for each of `references`."


@loss(
    needs={"ref_logprobs"},
    reduction="sequence_sum",
    policy_gradient=False,
    whole_batch=True,
    replayed=True,
    check_example=_check_labels,
)
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
    # A number times booleans would be rounded to float32, and so would a quotient of integers.
    desirable = torch.where(good, desirable_weight * torch.sigmoid(-gains), 0.0)
    undesirable = torch.where(bad, undesirable_weight * torch.sigmoid(gains), 0.0)
    # The mean over all rows is then the mean over the labelled ones.
    share = len(gains) / max(int((good | bad).sum()), 1)
    metrics: dict[str, Mean | float] = {
        "z": float(z),
        "desirable_reward": Mean.over(beta * log_ratios, good),
        "undesirable_reward": Mean.over(beta * log_ratios, bad),
    }
    return LossOutputs(share * (desirable + undesirable), metrics)


def _labelled(inputs: BatchLossInputs, column: str) -> tuple[Bool[Tensor, "batch"], ...]:
    """Return the rows with the labels true, false and null, where anything counts."""
    assert inputs.metadata is not None
    assert inputs.member is not None
    places = inputs.member.tolist()
    found = [_label(example, place, column) for example, place in zip(inputs.metadata, places, strict=True)]
    counted = inputs.loss_mask.any(dim=1)

    def rows(where: list[bool]) -> Bool[Tensor, "batch"]:
        return counted & torch.tensor(where, device=counted.device)

    known = [label is not None for label in found]
    good = rows([label is True for label in found])
    return good, rows(known) & ~good, counted & ~rows(known)
