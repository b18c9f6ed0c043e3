"""Core's losses on numbers that one can do in one's head; the golden values are in test_golden."""

import math

import pytest
import torch

import plugrad
from plugrad import LossInputs, OptionError


def inputs(ratio, advantage, *, teacher=None, ref=None, entropy=None, counted=None):
    """A sequence with these ratios to the engine and to the old policy, and log-probs of 0 before."""
    trainer = torch.tensor(ratio, dtype=torch.float64).log().requires_grad_()
    zeros = torch.zeros(len(ratio), dtype=torch.float64)
    return LossInputs(
        trainer_logprobs=trainer,
        inference_logprobs=zeros,
        teacher_logprobs=None if teacher is None else torch.tensor(teacher, dtype=torch.float64),
        advantages=torch.full_like(zeros, advantage),
        loss_mask=torch.tensor(counted or [True] * len(ratio)),
        old_logprobs=zeros,
        ref_logprobs=None if ref is None else torch.tensor(ref, dtype=torch.float64),
        entropy=entropy,
    )


def value_and_gradient(name, given, **options):
    loss = plugrad.load("loss", name, **options)(given).loss
    loss.backward()
    return loss.item(), given.trainer_logprobs.grad.tolist()


def test_ppo_clip_with_a_positive_advantage_stops_at_the_upper_bound():
    value, gradient = value_and_gradient("ppo_clip", inputs([1.0, 1.5, 0.5], 2.0))
    assert value == pytest.approx(-2 * (1.0 + 1.2 + 0.5))
    assert gradient == pytest.approx([-2.0, 0.0, -1.0])


def test_ppo_clip_with_a_negative_advantage_stops_at_the_lower_bound():
    value, gradient = value_and_gradient("ppo_clip", inputs([1.0, 1.5, 0.5], -2.0))
    assert value == pytest.approx(2 * (1.0 + 1.5 + 0.8))
    assert gradient == pytest.approx([2.0, 3.0, 0.0])


def test_ppo_clip_takes_another_upper_bound():
    value, _ = value_and_gradient("ppo_clip", inputs([1.5], 1.0), clip_eps_high=0.4)
    assert value == pytest.approx(-1.4)


def test_ppo_clip_refuses_a_negative_range():
    with pytest.raises(OptionError, match="clip_eps"):
        plugrad.load("loss", "ppo_clip", clip_eps=-0.1)


def test_importance_sampling_weighs_the_log_prob_by_the_ratio():
    given = inputs([1.0, 2.0], 3.0)
    value, gradient = value_and_gradient("importance_sampling", given)
    assert gradient == pytest.approx([-3.0, -6.0])
    assert value == pytest.approx(-6 * math.log(2))


@pytest.mark.parametrize(
    ("ratio", "options", "kept"),
    [
        ([1.0, 0.1, 9.0], {}, [True, False, False]),
        ([1.0, 0.1, 9.0], {"token_mask_low": 0.0, "token_mask_high": 10.0}, [True, True, True]),
        ([4.0, 4.0, 4.0], {"geo_mask_high": 3.0}, [False, False, False]),
        ([0.5, 0.5, 0.5], {"geo_mask_low": 0.6}, [False, False, False]),
        ([1.0, 1.0, 5.0], {"sequence_mask_high": 4.0}, [False, False, False]),
        ([1.0, 1.0, 0.2], {"sequence_mask_low": 0.3}, [False, False, False]),
    ],
)
def test_importance_sampling_masks_tokens_and_sequences(ratio, options, kept):
    _, gradient = value_and_gradient("importance_sampling", inputs(ratio, 1.0), **options)
    assert [g != 0 for g in gradient] == kept


def test_importance_sampling_at_the_level_of_sequences_divides_by_their_tokens():
    _, gradient = value_and_gradient("importance_sampling", inputs([2.0, 2.0], 1.0), ratio_type="sequence")
    assert gradient == pytest.approx([-2.0, -2.0])
    _, gradient = value_and_gradient("importance_sampling", inputs([4.0, 4.0], 1.0), ratio_type="sequence")
    assert gradient == pytest.approx([-5.0, -5.0])


def test_importance_sampling_needs_a_teacher_only_with_teacher_tau():
    assert plugrad.load("loss", "importance_sampling").needs == frozenset()
    assert plugrad.load("loss", "importance_sampling", teacher_tau=0.1).needs == {"teacher_logprobs"}


def test_uncounted_tokens_are_in_no_ratio():
    _, gradient = value_and_gradient("importance_sampling", inputs([1e6, 1.0], 1.0, counted=[False, True]))
    assert gradient == pytest.approx([0.0, -1.0])


def test_cross_entropy_is_the_negative_log_likelihood():
    value, gradient = value_and_gradient("cross_entropy", inputs([0.5, 0.25], 0.0))
    assert value == pytest.approx(3 * math.log(2))
    assert gradient == [-1.0, -1.0]


@pytest.mark.parametrize(
    ("estimator", "value", "gradient"),
    [("k1", math.log(2), 1.0), ("k2", math.log(2) ** 2 / 2, math.log(2)), ("k3", 0.5 + math.log(2) - 1, 0.5)],
)
def test_kl_to_reference(estimator, value, gradient):
    found = value_and_gradient("kl_to_reference", inputs([2.0], 0.0, ref=[0.0]), estimator=estimator)
    assert found == (pytest.approx(value), [pytest.approx(gradient)])


def test_entropy_bonus_pushes_the_entropy_up():
    entropy = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    loss = plugrad.load("loss", "entropy_bonus")(inputs([1.0, 1.0], 0.0, entropy=entropy)).loss
    loss.backward()
    assert loss.item() == -2.5
    assert entropy.grad.tolist() == [-1.0, -1.0]
