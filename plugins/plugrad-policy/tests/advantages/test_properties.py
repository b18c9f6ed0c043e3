"""Which advantages see the level, the scale and the whole batch. What holds of all is in `test_promises.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import plugrad
from plugrad import AdvantageInputs, Rollout

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("grpo:grpo", {}),
    ("grpo:grpo", {"leave_one_out": True}),
    ("grpo:grpo", {"unbiased": False}),
    ("grpo:grpo", {"leave_one_out": True, "unbiased": False}),
    ("lite_ppo:lite_ppo", {}),
    ("rloo:rloo", {}),
    ("reinforce_plus_plus:reinforce_plus_plus", {}),
    ("reinforce_plus_plus:reinforce_plus_plus", {"over": "rollouts"}),
    ("reinforce_plus_plus_baseline:reinforce_plus_plus_baseline", {}),
    ("reinforce_plus_plus_baseline:reinforce_plus_plus_baseline", {"over": "rollouts"}),
    ("maxrl:maxrl", {}),
    ("opo:opo", {}),
    ("gdpo:gdpo", {}),
    ("passk:passk", {}),
    ("passk:passk", {"k": 2}),
    ("remax:remax", {}),
    ("rae:Rae", {}),
]
ALL = [pytest.param(name, options, id=f"{name.split(':')[1]}-{options}") for name, options in OPTIONS]
SCALE_CANCELS = ("grpo", "lite_ppo", "reinforce_plus_plus", "maxrl", "gdpo")
SEES_THE_LEVEL = ("maxrl", "remax", "rae")

Build = Callable[..., Rollout]


def of(kinds: tuple[str, ...], *, but: bool = False) -> list[Any]:
    """Return the advantages of these kinds, or all but these."""
    return [param for param in ALL if str(param.values[0]).startswith(kinds) != but]


def load(name: str, options: dict[str, Any]) -> Callable[[AdvantageInputs], Tensor]:
    """Return a fresh instance of an advantage, as a function from its inputs to one number per rollout."""
    bound = plugrad.load("advantage", f"plugrad_policy.advantages.{name}", **options)
    return lambda inputs: bound(inputs).advantages


def batch(build: Build, rewards: Tensor, lengths: Tensor | None = None) -> AdvantageInputs:
    """Return groups with these rewards, whose score has two components."""
    lengths = torch.full(rewards.shape, 2) if lengths is None else lengths
    rollouts = [
        [build(r, n, {"right": r, "short": r * r - n}) for r, n in zip(row, sizes, strict=True)]
        for row, sizes in zip(rewards.tolist(), lengths.tolist(), strict=True)
    ]
    return AdvantageInputs(
        rewards=rewards,
        completion_lengths=lengths,
        rollouts=rollouts,
        greedy_rewards=torch.zeros(len(rewards), dtype=torch.float64),
    )


@pytest.fixture
def random_batch(rollout: Build) -> AdvantageInputs:
    """Three groups of five, some completions empty."""
    torch.manual_seed(0)
    return batch(rollout, torch.rand(3, 5, dtype=torch.float64), torch.randint(0, 9, (3, 5)))


def first_groups(inputs: AdvantageInputs, count: int) -> AdvantageInputs:
    """Return the first `count` groups."""
    return AdvantageInputs(
        rewards=inputs.rewards[:count],
        completion_lengths=inputs.completion_lengths[:count],
        rollouts=inputs.rollouts[:count],
        greedy_rewards=inputs.greedy_rewards[:count] if inputs.greedy_rewards is not None else None,
    )


@pytest.mark.parametrize(("name", "options"), ALL)
def test_completions_that_are_all_empty_are_no_division_by_zero(name: str, options: dict[str, Any], rollout: Build) -> None:
    lengths = torch.zeros(2, 3, dtype=torch.long)
    rewards = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    assert load(name, options)(batch(rollout, rewards, lengths)).isfinite().all()


@pytest.mark.parametrize(("name", "options"), of(("lite_ppo", "reinforce_plus_plus", "gdpo")))
def test_what_is_normalised_over_the_batch_sees_the_other_groups(
    name: str, options: dict[str, Any], random_batch: AdvantageInputs
) -> None:
    whole = load(name, options)(random_batch)
    assert not torch.allclose(load(name, options)(first_groups(random_batch, 1)), whole[:1])


# A component of `gdpo` is not linear in the reward here, so the reward is shifted in others only.
@pytest.mark.parametrize(("name", "options"), of((*SEES_THE_LEVEL, "gdpo"), but=True))
def test_a_reward_that_everybody_gets_changes_nothing(
    name: str, options: dict[str, Any], random_batch: AdvantageInputs
) -> None:
    shifted = replace(random_batch, rewards=random_batch.rewards + 100)
    torch.testing.assert_close(load(name, options)(shifted), load(name, options)(random_batch))


@pytest.mark.parametrize(("name", "options"), of(("gdpo",), but=True))
def test_a_scale_of_the_rewards_cancels_or_is_the_advantages(
    name: str, options: dict[str, Any], random_batch: AdvantageInputs
) -> None:
    scaled = replace(random_batch, rewards=1000 * random_batch.rewards)
    expected = load(name, options)(random_batch)
    expected = expected if name.startswith(SCALE_CANCELS) else 1000 * expected
    torch.testing.assert_close(load(name, options)(scaled), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "options"), of(("remax", "rae", "reinforce_plus_plus:"), but=True))
def test_what_compares_rollouts_asks_for_two(name: str, options: dict[str, Any]) -> None:
    module, function = name.split(":")
    target = getattr(__import__(f"plugrad_policy.advantages.{module}", fromlist=[function]), function)
    assert target.__plugrad_facts__.min_rollouts_per_example == 2
