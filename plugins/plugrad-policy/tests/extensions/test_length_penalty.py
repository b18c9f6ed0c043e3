"""`length_penalty`: the penalty by hand and prime-rl's value, inside core's hooks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, Rollout

PEERS = json.loads((Path(__file__).parents[1] / "golden" / "peers.json").read_text())


def rollout(reward: float, num_output: int, num_input: int = 3, num_turns: int = 0, **components: float) -> Rollout:
    """Return a rollout of these lengths, whose score has these components."""
    made = Rollout(
        prompt="1+1=",
        completion="2",
        prompt_ids=[0] * num_input,
        completion_ids=[1] * num_output,
        inference_logprobs=[-1.0] * num_output,
        reward=reward,
        reward_components=components,
        truncated=False,
        example={},
        metrics={},
        policy_versions=[0] * num_output,
    )
    return Rollout(**{**made, "trajectory": [{}] * num_turns}) if num_turns else made


def groups(*groups: list[Rollout]) -> AdvantageInputs:
    return AdvantageInputs(rollouts=list(groups))


def test_by_hand(inside: Callable) -> None:
    # The group succeeds at a rate of 1/2: a success of half the greatest length pays 1/2 * 0.8 * 1/2, the failure 1/2 * 0.8.
    hooks = inside("length_penalty", num_output_tokens_weight=0.8, num_input_tokens_weight=0.0, num_turns_weight=0.0).hooks
    prepared = hooks.prepare_advantages(groups([rollout(1.0, 5), rollout(0.0, 10)]))
    torch.testing.assert_close(prepared.rewards.tolist(), [[0.8, -0.4]])


def test_it_is_prime_rls(inside: Callable) -> None:
    key = "prime_rl/HEAD/grpo/linear_length_penalty(rewards=[1,.5,.8],out=[10,20,10],in=[5,5,10],turns=[1,2,1])"
    group = [rollout(1.0, 10, 5, 1), rollout(0.5, 20, 5, 2), rollout(0.8, 10, 10, 1)]
    found = inside("length_penalty").advantages(groups(group))
    torch.testing.assert_close(found, [PEERS[key]], rtol=1e-6, atol=1e-6)


def test_replies_are_turns(inside: Callable) -> None:
    hooks = inside("length_penalty", num_output_tokens_weight=0.0, num_input_tokens_weight=0.0, num_turns_weight=0.5).hooks
    roles = ("assistant", "tool", "assistant")
    turns = [{"role": role, "text": "", "start": 0, "stop": 0, "reward": None} for role in roles]
    prepared = hooks.prepare_advantages(groups([Rollout(**{**rollout(1.0, 3), "turns": turns}), rollout(1.0, 3)]))
    # Two replies pay the whole weight, one pays half of it.
    torch.testing.assert_close(prepared.rewards.tolist(), [[0.5, 0.75]])


def test_equal_lengths_change_no_advantage(inside: Callable) -> None:
    inputs = groups([rollout(1.0, 7), rollout(0.0, 7), rollout(0.25, 7)])
    torch.testing.assert_close(
        inside("length_penalty").advantages(inputs), plugrad.load("advantage", "group_mean")(inputs).advantages.tolist()
    )


def test_of_equal_rewards_the_shorter_is_better(inside: Callable) -> None:
    [found] = inside("length_penalty").advantages(groups([rollout(1.0, 30), rollout(1.0, 10), rollout(1.0, 20)]))
    assert found[1] > found[2] > found[0]
    assert sum(found) == pytest.approx(0)


@pytest.mark.parametrize("reward", [0.0, -1.0])
def test_where_nothing_succeeds_length_is_free(reward: float, inside: Callable) -> None:
    inputs = groups([rollout(reward, 1), rollout(reward, 100)])
    assert inside("length_penalty").hooks.prepare_advantages(inputs).rewards.tolist() == [[reward, reward]]


def test_an_advantage_that_reads_components_gets_the_penalty_as_one_more(inside: Callable) -> None:
    only_outputs = {"num_output_tokens_weight": 0.8, "num_input_tokens_weight": 0.0, "num_turns_weight": 0.0}
    right, wrong = rollout(1.0, 5, right=1.0), rollout(0.0, 10, right=0.0)
    late = rollout(1.0, 10, right=1.0)
    found = inside("length_penalty", around="plugrad-policy/gdpo", **only_outputs).advantages(groups([right, wrong, late]))
    # r and the penalty -2/3 * 0.8 * (1/2, 1, 1), each over its standard deviation and then their sum over its own.
    spread, cost = torch.tensor([1.0, 0.0, 1.0]).double(), -0.8 * 2 / 3 * torch.tensor([0.5, 1.0, 1.0]).double()
    total = sum((values - values.mean()) / (values.std() + 1e-4) for values in (spread, cost))
    torch.testing.assert_close(found, [((total - total.mean()) / (total.std() + 1e-4)).tolist()])
    assert found[0][0] > found[0][2] > found[0][1]


def test_the_penalty_has_a_weight_of_its_own(inside: Callable) -> None:
    group = [rollout(1.0, 5, right=1.0), rollout(1.0, 50, right=1.0), rollout(0.0, 10, right=0.0)]

    def of(**weights: float) -> list[list[float]]:
        options = {"weights": weights}
        return inside("length_penalty", around="plugrad-policy/gdpo", around_options=options).advantages(groups(group))

    plain = plugrad.load("advantage", "plugrad-policy/gdpo")(groups(group)).advantages.tolist()
    torch.testing.assert_close(of(extensions=0.0), plain)
    assert of(extensions=1.0)[0][0] > of(extensions=1.0)[0][1]


def test_where_it_charges_nothing_its_weight_is_no_error(inside: Callable) -> None:
    failed = groups([rollout(-1.0, 5, right=-1.0), rollout(0.0, 10, right=0.0)])
    running = inside("length_penalty", around="plugrad-policy/gdpo", around_options={"weights": {"extensions": 0.5}})
    assert running.advantages(failed) == plugrad.load("advantage", "plugrad-policy/gdpo")(failed).advantages.tolist()


def test_a_component_of_the_environments_may_not_take_its_name(inside: Callable) -> None:
    group = [rollout(1.0, 5, extensions=1.0), rollout(0.0, 10, extensions=0.0)]
    with pytest.raises(plugrad.ContractError, match="reward component 'extensions'"):
        inside("length_penalty", around="plugrad-policy/gdpo").advantages(groups(group))


def test_groups_do_not_see_each_other(inside: Callable) -> None:
    one, two = [rollout(1.0, 5), rollout(0.0, 10)], [rollout(1.0, 500), rollout(1.0, 9)]
    both = inside("length_penalty").advantages(groups(one, two))
    assert both == inside("length_penalty").advantages(groups(one)) + inside("length_penalty").advantages(groups(two))


def test_empty_completions_are_no_division_by_zero(inside: Callable) -> None:
    inputs = groups([rollout(1.0, 0, 0), rollout(0.0, 0, 0)])
    assert torch.tensor(inside("length_penalty").advantages(inputs)).isfinite().all()


def test_what_was_subtracted_is_reported_once(inside: Callable) -> None:
    running = inside("length_penalty", num_output_tokens_weight=0.8, num_input_tokens_weight=0.0, num_turns_weight=0.0)
    assert running.measured() == {}
    running.advantages(groups([rollout(1.0, 5), rollout(0.0, 10)]))
    assert running.measured() == {"mean": pytest.approx(0.3)}
    assert running.measured() == {}


def test_a_negative_weight_is_an_error() -> None:
    with pytest.raises(plugrad.OptionError, match="greater than or equal to 0"):
        plugrad.load("extension", "plugrad_policy.extensions.length_penalty:LengthPenalty", num_output_tokens_weight=-0.1)
