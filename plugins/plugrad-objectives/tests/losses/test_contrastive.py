"""contrastive by hand, and batches in which nothing comes together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import plugrad
from plugrad import BatchLossInputs


@pytest.fixture
def embedded(rows: Callable[..., BatchLossInputs]) -> Callable[..., BatchLossInputs]:
    """Build rows with these embeddings and labels."""

    def build(embeddings: Sequence[Sequence[float]], labels: Sequence[Any], column: str = "example_id") -> BatchLossInputs:
        return rows(
            [[-1.0]] * len(embeddings),
            embedding=torch.tensor(embeddings, dtype=torch.float64, requires_grad=True),
            metadata=[{column: label} for label in labels],
        )

    return build


def test_by_hand(embedded: Callable[..., BatchLossInputs]) -> None:
    # Cosines with the first: 1 of its class, 0 of the other. The third has no positive.
    inputs = embedded([[2.0, 0.0], [1.0, 0.0], [0.0, 5.0]], ["a", "a", "b"])
    outputs = plugrad.load("loss", "contrastive", temperature=1.0)(inputs)
    expected = -math.log(math.e / (math.e + 1))
    torch.testing.assert_close(outputs.loss, torch.tensor([expected, expected, 0.0], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(outputs.loss.sum(), inputs.embedding)
    # Both anchors pull on their cosine with the third row by 1 / (e + 1); length does not matter.
    p = 1 / (math.e + 1)
    wanted = torch.tensor([[0.0, p / 2], [0.0, p], [2 * p / 5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient, wanted)
    found = {name: measure.value() for name, measure in outputs.metrics.items()}
    assert found == {"nearest": 1.0, "positive_similarity": 1.0, "negative_similarity": 0.0}


def test_labels_come_from_a_column(embedded: Callable[..., BatchLossInputs]) -> None:
    inputs = embedded([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], [3, 4, 3], column="class")
    outputs = plugrad.load("loss", "contrastive", label="class")(inputs)
    assert outputs.loss[1] == 0
    assert outputs.loss[0] > 0
    assert outputs.metrics["nearest"].value() == 0.0
    with pytest.raises(plugrad.PlugradError, match="example_id"):
        plugrad.load("loss", "contrastive")(inputs)


@pytest.mark.parametrize("labels", [["a", "b", "c"], ["a", "a", "a"]])
def test_without_a_positive_it_is_0_and_with_one_class_alone_finite(
    embedded: Callable[..., BatchLossInputs], labels: list[str]
) -> None:
    inputs = embedded([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], labels)
    outputs = plugrad.load("loss", "contrastive")(inputs)
    (gradient,) = torch.autograd.grad(outputs.loss.sum(), inputs.embedding)
    assert gradient.isfinite().all()
    if labels == ["a", "b", "c"]:
        assert outputs.loss.tolist() == [0.0, 0.0, 0.0]
        assert not gradient.any()
    else:
        assert (outputs.loss > 0).all()


def test_one_row_is_0(embedded: Callable[..., BatchLossInputs]) -> None:
    assert plugrad.load("loss", "contrastive")(embedded([[1.0, 2.0]], ["a"])).loss.tolist() == [0.0]


def test_a_row_in_which_nothing_counts_is_neither_positive_nor_negative(embedded: Callable[..., BatchLossInputs]) -> None:
    inputs = embedded([[1.0, 0.0], [1.0, 0.1], [0.0, 0.0]], ["a", "a", "a"])
    mask = inputs.loss_mask.clone()
    mask[2] = False
    outputs = plugrad.load("loss", "contrastive")(BatchLossInputs(**{**vars(inputs), "loss_mask": mask}))
    assert outputs.loss.tolist() == [0.0, 0.0, 0.0]


def test_a_label_that_is_no_class_is_refused() -> None:
    check = plugrad.load("loss", "contrastive").bound.facts.check_example
    check({"kind": 1}, {"label": "kind"})
    with pytest.raises(plugrad.DataError, match="its label in the column 'kind'"):
        check({"kind": [1]}, {"label": "kind"})
