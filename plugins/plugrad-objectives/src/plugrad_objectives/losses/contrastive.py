"""Supervised contrastive learning: rows of one class come together, others apart (arXiv:2004.11362, eq. 2)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Annotated, Any

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from plugrad import BatchLossInputs, DataError, LossOutputs, Mean, loss


def _check_label(example: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    label = example[options["label"]]
    if not isinstance(label, Hashable):
        raise DataError(f"its label in the column {options['label']!r} is {label!r}. A label is text or a number.")


@loss(needs={"embedding"}, reduction="sequence_sum", policy_gradient=False, whole_batch=True, check_example=_check_label)
def contrastive(
    inputs: BatchLossInputs, label: str = "example_id", temperature: Annotated[float, Field(gt=0)] = 0.1
) -> LossOutputs:
    """-1 / |P(i)| sum_{p in P(i)} log(e^(z_i z_p / temperature) / sum_{a != i} e^(z_i z_a / temperature)).

    z is the embedding of a sequence, of length 1. P(i) are the other rows with the label of row i, and a runs over all other
    rows of the batch, on all ranks. A row without a positive adds 0; so does a row in which nothing counts, which is no
    negative either.

    NeMo RL's guide has the loss of a margin instead, over the pairs of a micro-batch, and NaN where one holds no positive.

    Args:
        label: the column of the examples with the class. By default rollouts of one prompt are each other's positives.
        temperature: 0.1 in the paper's best runs.

    Reports:
        nearest: the share of rows whose nearest other row has the same label, of those that could.
        positive_similarity: the mean cosine of rows with the same label.
        negative_similarity: the mean cosine of rows with different labels.
    """
    assert inputs.embedding is not None
    rows, classes, counted = normalize(inputs.embedding, dim=1), _classes(inputs, label), inputs.loss_mask.any(dim=1)
    others = counted.unsqueeze(1) & counted & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    positives = others & (classes.unsqueeze(1) == classes)
    similarities = rows @ rows.T
    hidden = torch.finfo(rows.dtype).min
    log_shares = (similarities / temperature).masked_fill(~others, hidden).log_softmax(dim=1)
    per_row = -torch.where(positives, log_shares, 0.0).sum(dim=1) / positives.sum(dim=1).clamp(min=1)
    nearest = similarities.masked_fill(~others, hidden).argmax(dim=1)
    metrics = {
        "nearest": Mean.over(classes[nearest] == classes, positives.any(dim=1)),
        "positive_similarity": Mean.over(similarities, positives),
        "negative_similarity": Mean.over(similarities, others & ~positives),
    }
    return LossOutputs(per_row, metrics)


def _classes(inputs: BatchLossInputs, column: str) -> Int[Tensor, "batch"]:
    """Return a number for each label."""
    assert inputs.metadata is not None
    numbers: dict[object, int] = {}
    found = [numbers.setdefault(example[column], len(numbers)) for example in inputs.metadata]
    return torch.tensor(found, device=inputs.loss_mask.device)
