"""An advantage that compares with one greedy completion of each example."""

import pytest

from plugrad.errors import ContractError

BASELINE = """
from plugrad import AdvantageOutputs, advantage

@advantage(needs={"greedy_rewards"})
def greedy_baseline(inputs):
    assert inputs.greedy_rewards.shape == inputs.rewards[:, 0].shape
    seen.append(inputs.greedy_rewards.tolist())
    return AdvantageOutputs(inputs.rewards - inputs.greedy_rewards.unsqueeze(1))

def without(inputs):
    assert inputs.greedy_rewards is None
    return AdvantageOutputs(inputs.rewards)

seen = []
"""
LENGTHS = """
seen = []

def length(completion, example):
    seen.append(example["prompt"])
    return float(len(completion))
"""
ROLLOUTS = {"prompts_per_step": 4, "rollouts_per_example": 3, "max_new_tokens": 4}


@pytest.fixture
def lengths(write):
    write("baseline.py", BASELINE)
    write("lengths.py", LENGTHS)
    return {"name": "jsonl", "kwargs": {"path": "sums.jsonl", "reward": "lengths.py:length", "num_eval": 8}}


def test_it_is_sampled_scored_and_not_trained_on(run, lengths):
    tables = {"environment": lengths, "rollout": ROLLOUTS, "max_steps": 2}
    with_greedy = run(advantage={"name": "baseline.py:greedy_baseline"}, **tables)
    without = run(advantage={"name": "baseline.py:without"}, **tables)
    # The same prompts and seeds: greedy completions beside them leave the sampled ones of the first step as they are.
    first, plain = with_greedy.records[0], without.records[0]
    assert first["num_tokens"] == plain["num_tokens"]
    assert first["reward"] == plain["reward"]
    assert first["advantage/mean"] != plain["advantage/mean"]


def test_completions_that_are_replayed_are_compared_with_what_the_policy_says(run, lengths):
    replayed = {"engine": "dataset", "prompts_per_step": 4, "rollouts_per_example": 1, "max_new_tokens": 4}
    result = run(environment=lengths, rollout=replayed, advantage={"name": "baseline.py:greedy_baseline"}, max_steps=1)
    # A reference has one or two digits; an untrained model goes on until it is stopped.
    assert result.records[0]["advantage/mean"] != 0.0


def test_an_unknown_need_of_an_advantage_is_refused(run, write, lengths):
    write("wrong.py", BASELINE.replace('{"greedy_rewards"}', '{"greedy_reward"}'))
    with pytest.raises(Exception, match=r"Did you mean 'greedy_rewards'"):
        run(advantage={"name": "wrong.py:greedy_baseline"}, environment=lengths)


def test_a_greedy_baseline_of_another_shape_is_an_error_of_the_advantages(run, write, lengths):
    write("shape.py", BASELINE.replace(".unsqueeze(1)", ""))
    with pytest.raises(ContractError, match="greedy_baseline"):
        run(advantage={"name": "shape.py:greedy_baseline"}, environment=lengths, rollout=ROLLOUTS)
