"""`importance_weights`, `nll`, `solved_groups` and `best_at_k` by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from plugrad import MetricInputs, Rollout
from plugrad_policy.metrics.best_at_k import best_at_k
from plugrad_policy.metrics.importance_weights import importance_weights
from plugrad_policy.metrics.nll import nll
from plugrad_policy.metrics.pass_at_k import pass_at_k
from plugrad_policy.metrics.solved_groups import solved_groups

Build = Callable[..., Rollout]
Batch = Callable[..., MetricInputs]
Values = Callable[..., dict[str, float]]


@pytest.fixture
def ratios(rollout: Build, batch: Batch) -> MetricInputs:
    """Two completions with the ratios 2, 0.25 and 1 over the engine, whose log-probs are -1; the prompt's are noise."""
    policy = torch.tensor([[7.0, math.log(2) - 1, math.log(0.25) - 1], [7.0, -1.0, 50.0]], dtype=torch.float64)
    engine = torch.full_like(policy, -1.0)
    groups = [rollout(ids=[1, 2]), rollout(ids=[1])]
    return batch(groups, trainer_logprobs=policy, inference_logprobs=engine, old_logprobs=policy)


def test_importance_weights_by_hand(ratios: MetricInputs, values: Values) -> None:
    found = values(importance_weights, ratios, high=1.5)
    chi_square = (4 + 0.0625 + 1) / 3 - 1
    expected = {"chi_square": chi_square, "min": 0.25, "max": 2.0, "small": 1 / 3, "large": 1 / 3}
    assert found == {name: pytest.approx(value) for name, value in expected.items()}


def test_the_effective_sample_size_follows_from_chi_square(values: Values, ratios: MetricInputs) -> None:
    # mu = (3/4, 1/4) and pi = (1/2, 1/2): of four tokens, three have the ratio 2/3 and one 2.
    weights = torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0], dtype=torch.float64)
    size = weights.sum().square() / weights.square().sum() / 4
    policy = torch.zeros(2, 3, dtype=torch.float64)
    policy[:, 1:] = weights.log().view(2, 2)
    inputs = replace(
        ratios,
        trainer_logprobs=policy,
        inference_logprobs=torch.zeros_like(policy),
        loss_mask=torch.tensor([[False, True, True]] * 2),
    )
    assert 1 / (1 + values(importance_weights, inputs)["chi_square"]) == pytest.approx(size.item())


def test_weights_over_the_old_policy_are_1_here(ratios: MetricInputs, values: Values) -> None:
    found = values(importance_weights, ratios, against="old")
    assert found == {"chi_square": 0.0, "min": 1.0, "max": 1.0, "small": 0.0, "large": 0.0}


def test_replayed_completions_have_no_engine(ratios: MetricInputs, values: Values) -> None:
    replayed = replace(ratios, inference_logprobs=None)
    assert values(importance_weights, replayed) == {}
    assert values(nll, replayed) == {"trainer": pytest.approx(1 - math.log(0.5) / 3)}


def test_nll_by_hand(ratios: MetricInputs, values: Values) -> None:
    assert values(nll, ratios) == {"trainer": pytest.approx(1 - math.log(0.5) / 3), "engine": pytest.approx(1.0)}


def test_solved_groups_by_hand(rollout: Build, batch: Batch, values: Values) -> None:
    groups = [[0.0, 0.5], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]
    inputs = batch(*[[rollout(reward) for reward in group] for group in groups])
    assert values(solved_groups, inputs) == {"none": 0.25, "some": 0.5, "all": 0.25}
    assert values(solved_groups, inputs, threshold=0.5)["none"] == 0


def test_best_at_k_is_the_mean_over_every_set(rollout: Build, batch: Batch, values: Values) -> None:
    rewards = [0.3, -1.0, 0.7, 0.7, 2.0]
    found = values(best_at_k, batch([rollout(reward) for reward in rewards]), ks=(1, 2, 3, 5, 6))
    for k in (1, 2, 3, 5):
        sets = [max(chosen) for chosen in combinations(rewards, k)]
        assert found[str(k)] == pytest.approx(sum(sets) / len(sets))
    assert "6" not in found


def test_for_rewards_of_0_and_1_best_is_pass(rollout: Build, batch: Batch, values: Values) -> None:
    inputs = batch([rollout(reward) for reward in (0.0, 1.0, 0.0, 0.0)], [rollout(0.0) for _ in range(4)])
    assert values(best_at_k, inputs) == pytest.approx(values(pass_at_k, inputs))
