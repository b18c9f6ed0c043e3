"""An advantage that compares with one greedy completion of each example."""

import pytest

from plugrad.errors import ContractError

BASELINE = """
from plugrad import AdvantageOutputs, advantage

@advantage(needs={"greedy_rewards"})
def greedy_baseline(inputs):
    assert inputs.greedy_rewards.shape == inputs.rewards[:, 0].shape
    return AdvantageOutputs(inputs.rewards - inputs.greedy_rewards.unsqueeze(1))

def without(inputs):
    assert inputs.greedy_rewards is None
    return AdvantageOutputs(inputs.rewards)
"""
CODES = """
class Codes:
    \"\"\"The same four examples to train on and to evaluate; the reward is the code of the first character.\"\"\"

    def train_examples(self):
        return [{"prompt": f"{i}+{j}=", "reference": str(i + j)} for i in (1, 2) for j in (1, 2)]

    eval_examples = train_examples

    def score(self, rollouts):
        return [float(ord((rollout["completion"] or "0")[0])) for rollout in rollouts]
"""
# A completion of one token: the mean over tokens is the mean over rollouts.
ROLLOUTS = {"prompts_per_step": 4, "rollouts_per_example": 3, "max_new_tokens": 1}


@pytest.fixture
def codes(write):
    write("baseline.py", BASELINE)
    write("codes.py", CODES)
    return {"name": "codes.py:Codes"}


@pytest.fixture
def first_records(run, codes):
    """Train one step; return the rewards of greedy completions before it, and its record."""

    def train(advantage, **rollout):
        tables = {"evaluation": {"every_steps": 1}, "max_steps": 1, "rollout": {**ROLLOUTS, **rollout}}
        evaluated, first, *_ = run(environment=codes, advantage={"name": f"baseline.py:{advantage}"}, **tables).records
        return evaluated["eval/reward"], first

    return train


def test_it_is_sampled_scored_and_not_trained_on(first_records):
    greedy, first = first_records("greedy_baseline")
    assert abs(first["reward"] - greedy) > 0.1
    assert first["advantage/mean"] == pytest.approx(first["reward"] - greedy, rel=1e-5)
    _, plain = first_records("without")
    assert plain["advantage/mean"] == pytest.approx(plain["reward"], rel=1e-5)
    # The same prompts and seeds: greedy completions beside them leave the sampled ones as they are.
    assert first["num_tokens"] == plain["num_tokens"] == 12
    assert first["reward"] == plain["reward"]


def test_completions_that_are_replayed_are_compared_with_what_the_policy_says(first_records):
    greedy, first = first_records("greedy_baseline", engine="dataset", rollouts_per_example=1)
    # The references are 2, 3, 3 and 4.
    assert first["reward"] == ord("3")
    assert greedy != first["reward"]
    assert first["advantage/mean"] == pytest.approx(ord("3") - greedy, rel=1e-5)


def test_an_unknown_need_of_an_advantage_is_refused(run, write, codes):
    write("wrong.py", BASELINE.replace('{"greedy_rewards"}', '{"greedy_reward"}'))
    with pytest.raises(Exception, match=r"Did you mean 'greedy_rewards'"):
        run(advantage={"name": "wrong.py:greedy_baseline"}, environment=codes)


def test_a_greedy_baseline_of_another_shape_is_an_error_of_the_advantages(run, write, codes):
    write("shape.py", BASELINE.replace(".unsqueeze(1)", ""))
    with pytest.raises(ContractError, match="greedy_baseline"):
        run(advantage={"name": "shape.py:greedy_baseline"}, environment=codes, rollout=ROLLOUTS)
