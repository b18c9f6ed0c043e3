"""`soft_clip`: the formula, its gradient, and that neither padding nor the cut of a batch changes it."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import BatchLossInputs, LossInputs
from plugrad.testing import check_micro_batches_add_up
from plugrad_example.soft_clip import soft_clip


def sequence(ratios: list[float], advantages: list[float]) -> LossInputs:
    """Return a sequence whose tokens have these ratios between the policy and the old one."""
    old = torch.full((len(ratios),), -2.0, dtype=torch.float64)
    policy = (old + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    mask = torch.ones(len(ratios), dtype=torch.bool)
    return LossInputs(policy, old, None, torch.tensor(advantages, dtype=torch.float64), mask, old_logprobs=old)


def micro_batch() -> BatchLossInputs:
    """Return three sequences of 6, 4 and 5 tokens, the first two of each the prompt's; what is masked is noise."""
    torch.manual_seed(0)
    positions, lengths = torch.arange(6), torch.tensor([[6], [4], [5]])
    mask = (positions >= 2) & (positions < lengths)
    policy, old, advantages = -2 * torch.rand(3, 6), -2 * torch.rand(3, 6), torch.randn(3, 6)
    return BatchLossInputs(policy, old, None, advantages, mask, old_logprobs=old)


def with_more_padding(inputs: BatchLossInputs, padding: int) -> BatchLossInputs:
    """Return the same with more padding at the right: finite numbers that mean nothing."""
    padded = {}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, Tensor):
            noise = torch.full((len(value), padding), 7.0).to(value)
            padded[field.name] = torch.cat([value, noise], dim=1)
    padded["loss_mask"][:, inputs.loss_mask.shape[1] :] = False
    return replace(inputs, **padded)


def sums_and_gradients(inputs: BatchLossInputs) -> tuple[Tensor, Tensor]:
    """Return each row's loss, and the gradient of their sum by the tokens' log-probs."""
    policy = inputs.trainer_logprobs.detach().requires_grad_()
    losses = plugrad.load("loss", "soft_clip")(replace(inputs, trainer_logprobs=policy)).loss
    sums = torch.where(inputs.loss_mask, losses, 0.0).sum(dim=1)
    sums.sum().backward()
    assert policy.grad is not None
    return sums.detach(), policy.grad


def test_where_the_policy_has_not_moved_the_gradient_is_the_plain_policy_gradient() -> None:
    inputs = sequence([1.0, 1.0], advantages=[2.0, -3.0])
    outputs = soft_clip(inputs)
    outputs.loss.sum().backward()
    torch.testing.assert_close(outputs.loss.tolist(), [0.0, 0.0])
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [-2.0, 3.0])
    assert outputs.metrics["gate"].value() == 1.0


def test_the_formula_by_hand() -> None:
    # sigmoid(log 3) = 3/4: for a ratio of 3 and A > 0 the loss is -2 A log(2 * 3/4), and the gate 2 * 1/4.
    inputs = sequence([3.0, 1 / 3, 3.0, 1 / 3], advantages=[1.0, 1.0, -4.0, -4.0])
    outputs = soft_clip(inputs, width=1.0)
    outputs.loss.sum().backward()
    along, against = -2 * math.log(3 / 2), -2 * math.log(1 / 2)
    torch.testing.assert_close(outputs.loss.tolist(), [along, against, 4 * against, 4 * along])
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [-0.5, -1.5, 6.0, 2.0])
    assert outputs.metrics["gate"].value() == pytest.approx(1.0)


def test_a_smaller_width_closes_the_gate_sooner() -> None:
    # At half the width x is doubled: sigmoid(2 log 3) = 9/10.
    inputs = sequence([3.0, 3.0], advantages=[1.0, -1.0])
    outputs = soft_clip(inputs, width=0.5)
    outputs.loss.sum().backward()
    torch.testing.assert_close(inputs.trainer_logprobs.grad.tolist(), [-0.2, 1.8])


def test_it_pushes_every_token_the_way_of_its_advantage_and_at_most_twice_as_hard() -> None:
    inputs = sequence([0.01, 0.5, 1.0, 2.0, 100.0], advantages=[1.0] * 5)
    soft_clip(inputs, width=1.0).loss.sum().backward()
    push = (-inputs.trainer_logprobs.grad).tolist()
    assert push == sorted(push, reverse=True)
    assert 1.95 < push[0] < 2
    assert 0 < push[-1] < 0.05


def test_a_token_without_advantage_has_no_gradient() -> None:
    inputs = sequence([0.5, 1.0, 2.0], advantages=[0.0, 0.0, 0.0])
    soft_clip(inputs).loss.sum().backward()
    assert inputs.trainer_logprobs.grad.tolist() == [0.0, 0.0, 0.0]


def test_padding_changes_nothing() -> None:
    sums, gradients = sums_and_gradients(micro_batch())
    padded_sums, padded_gradients = sums_and_gradients(with_more_padding(micro_batch(), 3))
    torch.testing.assert_close(padded_sums, sums)
    torch.testing.assert_close(padded_gradients[:, :6], gradients)
    assert not padded_gradients[:, 6:].any()


@pytest.mark.parametrize("width", [0.05, 0.2, 2.0])
def test_the_cut_into_micro_batches_changes_nothing(width: float) -> None:
    check_micro_batches_add_up("soft_clip", width=width)


def test_only_counted_tokens_matter() -> None:
    inputs = micro_batch()
    _, gradients = sums_and_gradients(inputs)
    assert gradients[inputs.loss_mask].all()
    assert not gradients[~inputs.loss_mask].any()


@pytest.mark.parametrize("reference", ["soft_clip", "plugrad-example/soft_clip"])
def test_it_is_found_by_name(reference: str) -> None:
    found = plugrad.load("loss", reference, width=2.0)
    assert found.needs == {"old_logprobs"}
    assert found.reduction == "token"
    assert found.options == {"width": 2.0}
    # At twice the width x is halved: sigmoid(log(9) / 2) = 3/4, for the sum of two tokens.
    assert found(sequence([9.0, 9.0], advantages=[1.0, 2.0])).loss.item() == pytest.approx(-12 * math.log(3 / 2))


def test_a_misspelt_option_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match=r"'widht'\. Did you mean 'width'"):
        plugrad.load("loss", "soft_clip", widht=0.1)


@pytest.mark.parametrize("width", [0.0, -0.2, math.inf, math.nan])
def test_a_width_that_makes_no_sense_is_an_error(width: float) -> None:
    with pytest.raises(plugrad.OptionError, match="above 0"):
        soft_clip(sequence([1.0], advantages=[1.0]), width=width)
