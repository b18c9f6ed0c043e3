"""Core's advantages by hand, and where they are defined."""

from functools import cache

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs
from plugrad.host.synthetic import metric_inputs
from plugrad.registry.scan import scan


def advantages(name, rewards, **options):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    inputs = AdvantageInputs(rewards=rewards, completion_lengths=torch.ones(rewards.shape, dtype=torch.long))
    return plugrad.load("advantage", name, **options)(inputs).advantages.tolist()


def test_group_mean_compares_within_a_group():
    assert advantages("group_mean", [[1.0, 0.0], [5.0, 7.0]]) == [[0.5, -0.5], [-1.0, 1.0]]


def test_group_normalized_divides_by_the_unbiased_standard_deviation():
    (found,) = advantages("group_normalized", [[0.0, 1.0, 2.0]], eps=0.0)
    assert found == pytest.approx([-1.0, 0.0, 1.0])


def test_equal_rewards_give_no_signal():
    assert advantages("group_normalized", [[3.0, 3.0]]) == [[0.0, 0.0]]
    assert advantages("group_mean", [[3.0, 3.0, 3.0]]) == [[0.0] * 3]


def test_constant_does_not_look_at_rewards():
    assert advantages("constant", [[3.0, -1.0]], value=2.0) == [[2.0, 2.0]]


EPS = torch.finfo(torch.float32).eps
OF_OTHER_SYSTEMS = {"skyrl", "verl", "prime_rl"}
"""They run a function of another system's, whose numerics are its own."""
WITHOUT_A_BASELINE_OF_THE_GROUP = {"constant", "discounted_returns", "gae", "opd", "rae"}
VARIANTS = [
    ("grpo", {"leave_one_out": True}),
    ("grpo", {"unbiased": False}),
    ("grpo", {"leave_one_out": True, "unbiased": False}),
    ("passk", {"k": 2}),
    ("reinforce_plus_plus", {"over": "rollouts"}),
    ("reinforce_plus_plus_baseline", {"over": "rollouts"}),
    ("group_quantile", {"quantile": 0.3}),
    ("group_normalized", {"eps": 0.0}),
]
COMPARING = [
    *((entry.name, {}) for entry in scan().of_kind("advantage") if entry.name not in OF_OTHER_SYSTEMS),
    *VARIANTS,
]
COMPARING = [pair for pair in COMPARING if pair[0] not in WITHOUT_A_BASELINE_OF_THE_GROUP]
comparing = pytest.mark.parametrize(("name", "options"), COMPARING, ids=str)


@cache
def loaded(name, options):
    return plugrad.load("advantage", name, **dict(options))


def groups_of(rewards, dtype=torch.float64):
    """Groups with these rewards, each with a score of two components, and a greedy completion as good as the first."""
    values = torch.tensor(rewards, dtype=torch.float64).to(dtype)
    rollouts = [
        [
            {"reward": r, "reward_components": {"one": r, "two": 2 * r}, "completion_ids": [1] * (2 + j), "example": {}}
            for j, r in enumerate(row)
        ]
        for row in values.double().tolist()
    ]
    lengths = torch.tensor([[2 + j for j in range(len(row))] for row in rewards])
    return AdvantageInputs(rewards=values, completion_lengths=lengths, greedy_rewards=values[:, 0]), rollouts


def found_for(name, options, rewards, dtype=torch.float64):
    inputs, rollouts = groups_of(rewards, dtype)
    if name == "gdpo":
        fields = {"prompt": "", "completion": "", "prompt_ids": [1], "inference_logprobs": [], "truncated": False}
        more = {**fields, "metrics": {}, "policy_versions": []}
        full = [[{**more, **rollout} for rollout in group] for group in rollouts]
        inputs = AdvantageInputs(rewards=inputs.rewards, completion_lengths=inputs.completion_lengths, rollouts=full)
    return loaded(name, tuple(options.items()))(inputs).advantages


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@comparing
def test_equal_rewards_give_exactly_nothing(name, options, dtype):
    for reward in (35.1, 0.1, 1 / 3, -0.7, 1e6 + 0.1, 1e-9):
        for count in (3, 7, 8):
            found = found_for(name, options, [[reward] * count, [reward] * count], dtype)
            assert found.dtype == torch.float64
            assert not found.any(), (reward, count, found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@comparing
def test_rewards_that_float32_told_apart_are_equal(name, options, dtype):
    nearly = [35.1, 35.1 * (1 + EPS), 35.1, 35.1 * (1 - EPS), 35.1 * (1 + 2 * EPS)]
    assert not found_for(name, options, [nearly, nearly], dtype).any()


@comparing
def test_rewards_that_differ_do_not(name, options):
    found = found_for(name, options, [[1.0, 1.0 + 1e-4, 0.9], [0.0, 1.0, 0.0]])
    assert found.any(dim=1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.bool])
@comparing
def test_rewards_are_compared_in_float64_whatever_they_are(name, options, dtype):
    rewards = [[1.0, 0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0, 0.0]]
    found = found_for(name, options, rewards, dtype)
    assert found.dtype == torch.float64
    assert torch.equal(found, found_for(name, options, rewards))


def test_leave_one_out_among_nearly_equal_rewards_is_no_million():
    found = found_for("grpo", {"leave_one_out": True}, [[35.1, 35.1 * (1 + EPS), 35.1, 0.0]], torch.float32)
    assert found.abs().max() < 40


@pytest.mark.parametrize("name", ["group_mean", "group_normalized", "grpo", "rloo", "opo", "lite_ppo", "gdpo"])
def test_the_metrics_of_dead_groups_agree(name):
    rewards = [[35.1] * 4, [0.0, 1.0, 1.0, 0.0], [0.1 + 0.2, 0.3, 0.3, 0.3]]
    found = found_for(name, {}, rewards)
    rollouts = [
        [{"completion_ids": [5, 6], "prompt_ids": [3], "reward": r, "inference_logprobs": [-1.0, -1.0]} for r in row]
        for row in rewards
    ]
    advantages = found.flatten().unsqueeze(1) * metric_inputs(rollouts).loss_mask
    given = metric_inputs(rollouts, advantages=advantages)
    zero = plugrad.load("metric", "advantage")(given)["zero"].value()
    dead = plugrad.load("metric", "dead_groups")(given)
    assert zero == dead["zero_advantages"].value()
    assert dead["equal_rewards"].value() == plugrad.load("metric", "reward")(given)["equal_groups"].value() == 2 / 3
