"""entropy_quantile_bonus by hand: the most uncertain tokens of the micro-batch, and no others."""

from __future__ import annotations

import math

import pytest
import torch

import plugrad
from plugrad_policy.losses.entropy_quantile_bonus import entropy_quantile_bonus

ENTROPIES = [[0.0, 1.0, 2.0], [3.0, 4.0]]


@pytest.fixture
def inputs(rows):
    """Two sequences with entropies 0, 1, 2 and 3, 4; in the padding, 9."""
    entropy = torch.tensor([ENTROPIES[0], [*ENTROPIES[1], 9.0]], dtype=torch.float64, requires_grad=True)
    return rows([[1.0] * 3, [1.0] * 2], [[1.0] * 3, [-1.0] * 2], entropy=entropy)


def gradient(inputs, **options):
    total = entropy_quantile_bonus(inputs, **options).loss[inputs.loss_mask].sum()
    return torch.autograd.grad(total, inputs.entropy)[0]


def test_only_the_tokens_from_the_quantile_on_are_raised(inputs, close):
    # The 0.75-quantile of 0, 1, 2, 3, 4 is 3.
    close(entropy_quantile_bonus(inputs, quantile=0.75).loss[inputs.loss_mask], [0.0, 0.0, 0.0, -3.0, -4.0])
    close(gradient(inputs, quantile=0.75), [[0.0, 0.0, 0.0], [-1.0, -1.0, 0.0]])


def test_between_two_entropies_the_bound_is_interpolated(inputs, close):
    # The 0.8-quantile is 3.2.
    outputs = entropy_quantile_bonus(inputs)
    close(outputs.loss[inputs.loss_mask], [0.0, 0.0, 0.0, 0.0, -4.0])
    close(outputs.metrics["entropy_bound"], 3.2)
    close(outputs.metrics["is_raised"].value(), 0.2)
    close(outputs.metrics["raised_entropy"].value(), 4.0)
    close(outputs.metrics["entropy"].value(), 2.0)


def test_with_0_it_is_cores_entropy_bonus(inputs, close):
    found = entropy_quantile_bonus(inputs, quantile=0.0).loss
    close(found[inputs.loss_mask], plugrad.load("loss", "entropy_bonus")(inputs).loss.detach()[inputs.loss_mask])


def test_equal_entropies_are_all_raised(rows):
    inputs = rows([[1.0] * 4], [[1.0] * 4])
    assert entropy_quantile_bonus(inputs, quantile=0.5).metrics["is_raised"].value() == 1.0


def test_without_a_counted_token_there_is_nothing(rows):
    inputs = rows([[1.0] * 2], [[1.0] * 2])
    empty = type(inputs)(**{**vars(inputs), "loss_mask": torch.zeros(1, 2, dtype=torch.bool)})
    metrics = entropy_quantile_bonus(empty).metrics
    assert metrics["entropy_bound"] == 0.0
    assert math.isnan(metrics["raised_entropy"].value())


@pytest.mark.parametrize("quantile", [-0.1, 1.0])
def test_a_quantile_that_makes_no_sense_is_an_error(quantile):
    with pytest.raises(plugrad.OptionError, match="quantile"):
        plugrad.load("loss", "plugrad_policy.losses.entropy_quantile_bonus:entropy_quantile_bonus", quantile=quantile)
