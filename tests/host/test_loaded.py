"""Loaded components have the checks of a run: `LoadedAdvantage`, `LoadedMetric`, and what they say."""

import math

import pytest
import torch

import plugrad
from plugrad import AdvantageInputs, ContractError, LossInputs, MetricInputs, OptionError

SUM = """
import torch
from plugrad import AdvantageInputs, AdvantageOutputs, advantage, metric

@advantage(order_dependent=True)
class Running:
    "Reward minus a running sum."
    def __init__(self):
        self.total = 0.0

    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        found = inputs.rewards - self.total
        self.total += float(inputs.rewards.sum())
        return AdvantageOutputs(found)

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]

class Counting:
    "Counts what it is told."
    def __init__(self):
        self.calls = 0

    def __call__(self, inputs):
        self.calls += 1
        return {}

    def after_update(self, measures):
        self.calls += 1

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]

class NoState:
    def __call__(self, inputs):
        return {}

    def state_dict(self):
        return [1]

    def load_state_dict(self, state):
        pass

def nothing(inputs): return None
def nan(inputs): return AdvantageOutputs(inputs.rewards * float("nan"))
def raises(inputs): return inputs.no_such_field
def narrow(inputs): return AdvantageOutputs(inputs.rewards[:, :1])
def changes(inputs): inputs.rewards.mul_(2); return AdvantageOutputs(inputs.rewards)
def number(inputs): return 7.0
def text(inputs): return {"a": "b"}
@metric(needs={"old_logprobs"})
def old(inputs): return {"old": inputs.old_logprobs.sum(), "hidden": float(inputs.entropy is None)}
"""


@pytest.fixture
def mine(write, tmp_path, monkeypatch):
    write("mine.py", SUM)
    monkeypatch.chdir(tmp_path)
    return lambda kind, name: plugrad.load(kind, f"mine.py:{name}")


def groups(rewards, **fields):
    return AdvantageInputs(rewards=rewards, completion_lengths=torch.ones(rewards.shape, dtype=torch.long), **fields)


def shares(**changes):
    zeros = torch.zeros(1, 2)
    given = {
        "rollouts": [],
        "rewards": torch.zeros(1),
        "advantages": zeros,
        "loss_mask": torch.tensor([[False, True]]),
        "trainer_logprobs": zeros,
        "inference_logprobs": zeros,
        "group_ids": torch.zeros(1, dtype=torch.long),
    }
    return MetricInputs(**{**given, **changes})


def test_a_loaded_advantage_says_what_it_needs_and_takes():
    rloo, remax = plugrad.load("advantage", "rloo"), plugrad.load("advantage", "remax")
    assert (rloo.needs, rloo.min_rollouts_per_example, rloo.options) == (frozenset(), 2, {})
    assert remax.needs == {"greedy_rewards"}
    assert plugrad.load("advantage", "grpo", eps=1e-4).options["eps"] == 1e-4


@pytest.mark.parametrize("name", ["rloo", "grpo", "group_mean", "group_normalized", "opo", "maxrl", "lite_ppo", "passk"])
def test_too_few_rollouts_are_refused_as_before_a_run(name):
    with pytest.raises(OptionError, match=rf"'{name}' .* at least 2 rollouts per example, and the rewards have 1"):
        plugrad.load("advantage", name)(groups(torch.tensor([[1.0], [0.0]])))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.long, torch.float16, torch.float32])
def test_rewards_of_any_type_are_computed_in_float64(dtype):
    found = plugrad.load("advantage", "rloo")(groups(torch.tensor([[1, 0, 0]], dtype=dtype))).advantages
    assert found.dtype == torch.float64
    assert found.tolist() == [[1.0, -0.5, -0.5]]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_rewards_that_are_not_finite_are_named_by_their_place(wrong):
    with pytest.raises(ContractError, match=rf"'rloo' .*rewards of {wrong} at \[1, 0\]"):
        plugrad.load("advantage", "rloo")(groups(torch.tensor([[1.0, 0.0], [wrong, 0.0]])))


def test_a_need_that_is_not_there_is_named():
    with pytest.raises(ContractError, match=r"'remax' .* needs greedy_rewards: pass AdvantageInputs\(greedy_rewards=...\)"):
        plugrad.load("advantage", "remax")(groups(torch.tensor([[1.0, 0.0]])))


def test_the_state_of_a_loss_and_a_metric_can_be_kept(mine):
    for kind, told in (("loss", lambda loss: loss.after_update({})), ("metric", lambda metric: metric(shares()))):
        used, other = mine(kind, "Counting"), mine(kind, "Counting")
        told(used)
        other.load_state_dict(used.state_dict())
        assert other.state_dict() == used.state_dict() == {"calls": 1}


def test_a_state_that_is_none_is_refused(mine):
    with pytest.raises(ContractError, match=r"the metric 'NoState' .*state_dict\(\) returned list; return a mapping"):
        mine("metric", "NoState").state_dict()
    with pytest.raises(ContractError, match=r"'rloo' .* has no load_state_dict, but was given a state with total"):
        plugrad.load("advantage", "rloo").load_state_dict({"total": 1})


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nothing", "returned NoneType; an advantage returns plugrad.AdvantageOutputs"),
        ("nan", "returned an advantage that is not finite for example 0"),
        ("raises", "raised AttributeError: .*no_such_field"),
        ("narrow", r"returned advantages of shape \(1, 1\); the inputs have \(1, 2\)"),
        ("changes", "changed 'rewards' of its inputs in place"),
    ],
)
def test_what_an_advantage_returns_is_checked(mine, name, complaint):
    with pytest.raises(ContractError, match=rf"the advantage '{name}' .*{complaint}"):
        mine("advantage", name)(groups(torch.tensor([[1.0, 0.0]])))


def test_the_state_of_an_advantage_can_be_kept(mine):
    used, inputs = mine("advantage", "Running"), groups(torch.tensor([[1.0, 2.0]]))
    used(inputs)
    other = mine("advantage", "Running")
    other.load_state_dict(used.state_dict())
    assert other(inputs).advantages.tolist() == used(inputs).advantages.tolist() == [[-2.0, -1.0]]
    assert plugrad.load("advantage", "rloo").state_dict() == {}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("number", "returned float; a metric returns a mapping"),
        ("text", "returned 'a'"),
        ("raises", "raised AttributeError"),
        ("old", r"needs old_logprobs: pass MetricInputs\(old_logprobs=...\)"),
    ],
)
def test_what_a_metric_returns_is_checked(mine, name, complaint):
    with pytest.raises(ContractError, match=rf"the metric '{name}' .*{complaint}"):
        mine("metric", name)(shares())


def test_a_metric_sees_what_it_needs_in_float32_without_what_is_masked(mine):
    old = torch.tensor([[math.nan, 2.0]], dtype=torch.float16)
    found = mine("metric", "old")(shares(old_logprobs=old, entropy=torch.ones(1, 2)))
    assert {name: measure.value() for name, measure in found.items()} == {"old": 2.0, "hidden": 1.0}
    assert found["old"].total.dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "name", "takes"),
    [
        ("loss", "ppo_clip", "plugrad.LossInputs or plugrad.BatchLossInputs"),
        ("advantage", "rloo", "plugrad.AdvantageInputs"),
        ("metric", "reward", "plugrad.MetricInputs"),
    ],
)
@pytest.mark.parametrize("given", [None, {"rewards": [1.0]}, torch.zeros(2)])
def test_other_inputs_are_refused_with_those_that_it_takes(kind, name, takes, given):
    with pytest.raises(ContractError, match=rf"'{name}' .* was called with {type(given).__name__}; it takes {takes}"):
        plugrad.load(kind, name)(given)


def test_masked_logits_reach_a_loss_as_zeros(write, tmp_path, monkeypatch):
    write(
        "logits.py",
        """
        from plugrad import LossInputs, LossOutputs, loss

        @loss(needs={"logits"})
        def of_logits(inputs: LossInputs) -> LossOutputs:
            return LossOutputs(inputs.logits.square().sum(dim=1) * inputs.trainer_logprobs)
        """,
    )
    monkeypatch.chdir(tmp_path)
    logits = torch.tensor([[math.nan, 1e30], [1.0, 2.0]], dtype=torch.bfloat16, requires_grad=True)
    ones = torch.ones(2, dtype=torch.bfloat16)
    value = plugrad.load("loss", "logits.py:of_logits")(
        LossInputs(
            trainer_logprobs=ones,
            inference_logprobs=ones,
            advantages=ones,
            loss_mask=torch.tensor([False, True]),
            logits=logits,
        )
    ).loss
    value.backward()
    assert value.item() == 5.0
    assert logits.grad.tolist() == [[0.0, 0.0], [2.0, 4.0]]


def test_a_loaded_loss_learns_of_updates(write):
    path = write(
        "learns.py",
        """
        from plugrad import BatchLossInputs, LossOutputs

        class Learns:
            def __call__(self, inputs: BatchLossInputs) -> LossOutputs:
                return LossOutputs(inputs.trainer_logprobs)

            def after_update(self, measures):
                self.learned = measures
        """,
    )
    loss = plugrad.load("loss", f"{path}:Learns")
    loss.after_update({"loss": 1.5})
    assert loss.bound.instance.learned == {"loss": 1.5}
    plugrad.load("loss", "ppo_clip").after_update({"loss": 1.5})
