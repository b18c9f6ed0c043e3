"""Metrics of rollouts: `pass_at_k`, `reward_components`, `dead_groups`, `repetition`, `truncated`, `staleness`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
import torch

import plugrad
from plugrad import MetricInputs, Rollout
from plugrad_policy.metrics.dead_groups import dead_groups
from plugrad_policy.metrics.pass_at_k import pass_at_k
from plugrad_policy.metrics.repetition import repetition
from plugrad_policy.metrics.reward_components import reward_components
from plugrad_policy.metrics.staleness import staleness
from plugrad_policy.metrics.truncated import truncated

Build = Callable[..., Rollout]
Batch = Callable[..., MetricInputs]
Values = Callable[..., dict[str, float]]


def test_pass_at_k_by_hand(rollout: Build, batch: Batch, values: Values) -> None:
    # One of four succeeds: two draws miss it with chance 3/4 * 2/3. Nothing succeeds in the other group.
    inputs = batch([rollout(r) for r in (0.0, 1.0, 0.0, 0.0)], [rollout(0.5) for _ in range(4)])
    assert values(pass_at_k, inputs) == {"1": 0.125, "2": 0.25, "4": 0.5}
    assert values(pass_at_k, inputs, threshold=0.5, ks=(2,)) == {"2": 0.75}


def test_pass_at_k_is_the_mean_over_every_draw(rollout: Build, batch: Batch, values: Values) -> None:
    rewards = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    found = values(pass_at_k, batch([rollout(r) for r in rewards]), ks=tuple(range(1, 9)))
    for k in range(1, 8):
        draws = [max(drawn) for drawn in combinations(rewards, k)]
        assert found[str(k)] == pytest.approx(sum(draws) / len(draws))
    assert "8" not in found


def test_reward_components_by_hand(rollout: Build, batch: Batch, values: Values) -> None:
    inputs = batch(
        [rollout(components={"right": 1.0, "short": 0.5}), rollout(components={"right": 0.0, "short": 0.0})],
        [rollout(components={"right": 1.0})],
    )
    assert values(reward_components, inputs) == {"right": pytest.approx(2 / 3), "short": 0.25}


def test_a_score_without_components_has_none(rollout: Build, batch: Batch, values: Values) -> None:
    assert values(reward_components, batch([rollout()])) == {}


def test_dead_groups_by_hand(rollout: Build, batch: Batch, values: Values) -> None:
    # The advantages of the second group are rounding errors. The third has equal rewards, told apart by an extension. What
    # the prompt's token has is noise.
    groups = [[rollout(0.0), rollout(1.0)], [rollout(0.1), rollout(0.1)], [rollout(1.0), rollout(1.0)]]
    advantages = torch.tensor([[9.0, 0, -1], [9.0, 1, 1], [9.0, 0, 1e-17], [9.0, 0, 0], [9.0, 0.1, 0], [9.0, 0, 0]])
    found = values(dead_groups, batch(*groups, advantages=advantages))
    assert found == {"zero_advantages": pytest.approx(1 / 3), "equal_rewards": pytest.approx(2 / 3)}


def test_groups_of_different_sizes_are_groups(rollout: Build, batch: Batch, values: Values) -> None:
    groups = [[rollout(0.0)], [rollout(0.0), rollout(1.0), rollout(0.0)]]
    advantages = torch.tensor([[0.0, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0]])
    assert values(dead_groups, batch(*groups, advantages=advantages)) == {"zero_advantages": 0.5, "equal_rewards": 0.5}


def test_repetition_by_hand(rollout: Build, batch: Batch, values: Values) -> None:
    # Bigrams: 12, 21, 12 are two; 12, 23 are two of two. One token has none.
    inputs = batch([rollout(ids=[1, 2, 1, 2]), rollout(ids=[1, 2, 3])], [rollout(ids=[7])])
    assert values(repetition, inputs, n=2) == {"mean": pytest.approx((1 / 3 + 0) / 2), "max": pytest.approx(1 / 3)}


def test_a_loop_repeats_nearly_everything(rollout: Build, batch: Batch, values: Values) -> None:
    assert values(repetition, batch([rollout(ids=[5] * 103)])) == {"mean": pytest.approx(0.99), "max": pytest.approx(0.99)}


def test_completions_too_short_to_repeat_report_nothing(rollout: Build, batch: Batch, values: Values) -> None:
    assert values(repetition, batch([rollout(ids=[]), rollout(ids=[1, 1, 1])])) == {}


def test_truncated_by_hand(rollout: Build, batch: Batch, values: Values) -> None:
    groups = [rollout(0.0, truncated=True), rollout(1.0, ids=[1])], [rollout(0.5, truncated=True), rollout(0.0, ids=[1] * 4)]
    found = values(truncated, batch(*groups))
    assert found == {"share": 0.5, "reward": 0.25, "complete_reward": 0.5, "complete_length": 2.5}


def test_nothing_is_said_of_what_there_is_none(rollout: Build, batch: Batch, values: Values) -> None:
    assert values(truncated, batch([rollout(1.0)])) == {"share": 0.0, "complete_reward": 1.0, "complete_length": 2.0}
    assert values(truncated, batch([rollout(1.0, truncated=True)])) == {"share": 1.0, "reward": 1.0}


def test_staleness_by_hand(rollout: Build, batch: Batch, values: Values) -> None:
    inputs = batch([rollout(ids=[1, 2], versions=[5, 6])], [rollout(ids=[1], versions=[3]), rollout(ids=[], versions=[])])
    later = replace(inputs, policy_version=8)
    assert values(staleness, later) == {"mean": pytest.approx((3 + 2 + 5) / 3), "max": 5.0}


def test_without_a_token_there_is_no_staleness(rollout: Build, batch: Batch, values: Values) -> None:
    assert values(staleness, batch([rollout(ids=[])])) == {}


@pytest.mark.parametrize(
    ("reference", "options"),
    [("pass_at_k:pass_at_k", {"ks": [0]}), ("repetition:repetition", {"n": 0}), ("clip:clip", {"low": -0.1})],
)
def test_options_that_make_no_sense_are_errors(reference: str, options: dict[str, object]) -> None:
    with pytest.raises(plugrad.OptionError, match="greater than or equal to"):
        plugrad.load("metric", f"plugrad_policy.metrics.{reference}", **options)
