"""A plugin that reads a key which rollouts or examples lack is told what they have, and where it comes from."""

import pytest
import torch

from plugrad import AdvantageInputs, ContractError, LossInputs, MetricInputs
from plugrad.host.calling import call_plugin

FIVE = torch.zeros(5)


@pytest.fixture
def groups(rollout):
    return [[rollout(1.0, reward_components={"right": 1.0}, info={"turns": 2}), rollout(0.0, metrics={"words": 1.0})]]


@pytest.fixture
def inputs(groups):
    return AdvantageInputs(rollouts=groups)


@pytest.fixture
def of_a_loss():
    return LossInputs(
        trainer_logprobs=FIVE, inference_logprobs=FIVE, advantages=FIVE, loss_mask=FIVE > 0, metadata={"prompt": "2+3="}
    )


def a_kept_component(inputs):
    for group in inputs.rollouts:
        for member in group:
            parts = member["reward_components"]
            float(
                parts["rigth"]
                + 1.0
            )  # fmt: skip


def in_a_helper(inputs):
    return sum(map(_style, inputs.rollouts[0]))


def _style(rollout):
    return rollout["reward_components"]["style"]


def by_a_variable(inputs):
    name = "style"
    return [rollout["reward_components"][name] for rollout in inputs.rollouts[0]]


READS = {
    "a key that an environment may add": (
        lambda inputs: inputs.rollouts[0][1]["info"],
        r"KeyError: 'info' .*This rollout has the keys prompt, completion, .*policy_versions\. 'info' is there only where "
        r"the environment's score writes it: read inputs\.rollouts\[0\]\[1\]\.get\('info'\)\.$",
    ),
    "a key of its own": (
        lambda inputs: [[rollout["trace"] for rollout in group] for group in inputs.rollouts],
        r"A key beyond these is there only where the environment's score writes it: read rollout\.get\('trace'\)",
    ),
    "a misspelt key": (lambda inputs: inputs.rollouts[0][0]["completions"], "Did you mean 'completion'"),
    "a column as a key": (
        lambda inputs: [rollout["example_id"] for rollout in inputs.rollouts[0]],
        r"Write rollout\['example'\]\['example_id'\]\.$",
    ),
    "a column": (
        lambda inputs: [rollout["example"]["difficulty"] for rollout in inputs.rollouts[0]],
        r"This example has the columns example_id, prompt\. They are those of the environment's examples\. Where one can be "
        r"missing, read rollout\['example'\]\.get\('difficulty'\)\.$",
    ),
    "a component": (
        a_kept_component,
        r"has the reward components right\. Did you mean 'right'.* read parts\.get\('rigth'\)",
    ),
    "a component in a helper": (in_a_helper, r"KeyError: 'style' .*has the reward components right\. The environment names"),
    "a component by a variable": (by_a_variable, r"has the reward components right\."),
    "a component of none": (lambda inputs: inputs.rollouts[0][1]["reward_components"]["right"], "has no reward components"),
    "a metric": (
        lambda inputs: inputs.rollouts[0][1]["metrics"]["lines"],
        r"has the metrics words\. The environment writes",
    ),
    "an entry of info": (lambda inputs: inputs.rollouts[0][0]["info"]["tools"], r"has the entries in info turns\."),
}
OTHERS = {
    "its own mapping": lambda inputs: {"a": 1}["style"],
    "its own mapping of the same name": lambda inputs: [{"info": {}}["info"]["style"] for rollout in inputs.rollouts[0]],
    "what it computed": lambda inputs: dict(inputs.rollouts[0][0]["metrics"])["style"],
    "what it raised": lambda inputs: (_ for _ in ()).throw(KeyError("style")),
    "without a key": lambda inputs: (_ for _ in ()).throw(KeyError()),
}


@pytest.mark.parametrize(("read", "said"), READS.values(), ids=READS)
def test_what_rollouts_have_is_told(inputs, read, said):
    with pytest.raises(ContractError, match=said) as caught:
        call_plugin("the advantage 'mine' (mine.py)", read, inputs)
    assert caught.value.fix


@pytest.mark.parametrize("read", OTHERS.values(), ids=OTHERS)
def test_a_key_of_something_else_stays_as_it_is(inputs, read):
    with pytest.raises(
        ContractError, match=r"^the advantage 'mine' \(mine.py\) raised KeyError[^.]* \(\S*test_missing_key.py:\d+\)$"
    ):
        call_plugin("the advantage 'mine' (mine.py)", read, inputs)


def test_the_columns_of_a_loss_are_told(of_a_loss):
    with pytest.raises(
        ContractError, match=r"This example has the columns prompt\. .*read inputs\.metadata\.get\('level'\)"
    ):
        call_plugin("the loss 'mine'", lambda inputs: inputs.metadata["level"], of_a_loss)


def test_an_environment_and_a_metric_are_told_too(groups, metric_inputs):
    with pytest.raises(ContractError, match=r"has the columns example_id, prompt\."):
        call_plugin("the environment 'mine'", lambda rollouts: [r["example"]["answer"] for r in rollouts], groups[0])
    assert isinstance(metric_inputs, MetricInputs)
    with pytest.raises(ContractError, match=r"has no metrics"):
        call_plugin("the metric 'mine'", lambda inputs: inputs.rollouts[0][0]["metrics"]["kl"], metric_inputs)


def test_a_misspelt_field_of_the_inputs_is_told(of_a_loss, inputs):
    with pytest.raises(
        ContractError, match=r"'LossInputs' object has no attribute 'advantage' .*Did you mean 'advantages'\?"
    ):
        call_plugin("it", lambda given: given.advantage, of_a_loss)
    with pytest.raises(ContractError, match=r"Did you mean 'rewards'\? AdvantageInputs has rewards, ") as caught:
        call_plugin("it", lambda given: given.reward, inputs)
    assert "completion_lengths" in caught.value.fix
    with pytest.raises(ContractError) as caught:
        call_plugin("it", lambda given: given.rewards.nothing, inputs)
    assert not caught.value.fix
