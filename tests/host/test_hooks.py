"""Core's implementation of the hooks, with and without an extension around it."""

import pytest
import torch

from plugrad import AdvantageInputs, AdvantageOutputs, LossOutputs, Sum, hookimpl
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.hooks import Host
from plugrad.host.metric import BoundMetric
from plugrad.registry.manager import build_manager


def centred(inputs):
    return AdvantageOutputs(inputs.rewards - inputs.rewards.mean())


def mean_reward(inputs):
    return {"mean": inputs.rewards}


@pytest.fixture
def hooks(component):
    """The hooks with core behind them, wrapped in these extension classes."""

    def make(*extensions):
        advantage, metric = component(centred, "advantage"), component(mean_reward, "metric")
        host = Host(BoundAdvantage(advantage, advantage.create()), [BoundMetric(metric, metric.create(), "reward")])
        wrapped = [component(extension, "extension") for extension in extensions]
        return build_manager(host, [(made, made.create()) for made in wrapped]).hook

    return make


def test_core_alone_hands_inputs_on_and_calls_what_was_selected(hooks, bound_loss, batch, metric_inputs):
    def negative(inputs):
        return LossOutputs(-inputs.trainer_logprobs)

    hook, inputs, loss = hooks(), batch(), bound_loss(negative)
    groups = AdvantageInputs(rewards=torch.tensor([[1.0, 0.0]]), completion_lengths=torch.tensor([[1, 1]]))
    assert hook.prepare_advantages(inputs=groups) is groups
    assert hook.compute_advantages(inputs=groups).advantages.tolist() == [[0.5, -0.5]]
    assert hook.prepare_loss(component=loss, inputs=inputs) is inputs
    found = hook.compute_loss(component=loss, inputs=inputs).loss
    assert found[1, :3].tolist() == (-inputs.trainer_logprobs[1, :3]).tolist()
    assert hook.compute_metrics(inputs=metric_inputs).values_by_name() == {"reward/mean": 0.5}
    assert hook.before_update(grad_norm=float("nan"), loss=0.0) == [True]


def test_extensions_change_inputs_in_their_order(hooks):
    class Doubles:
        @hookimpl(wrapper=True)
        def prepare_advantages(self, inputs):
            prepared = yield
            return AdvantageInputs(rewards=prepared.rewards * 2, completion_lengths=prepared.completion_lengths)

    class PenalisesLength:
        @hookimpl(wrapper=True)
        def prepare_advantages(self, inputs):
            prepared = yield
            return AdvantageInputs(
                rewards=prepared.rewards - prepared.completion_lengths, completion_lengths=prepared.completion_lengths
            )

    groups = AdvantageInputs(rewards=torch.tensor([[1.0, 0.0]]), completion_lengths=torch.tensor([[1, 3]]))
    assert hooks(Doubles, PenalisesLength).prepare_advantages(inputs=groups).rewards.tolist() == [[1.0, -3.0]]
    assert hooks(PenalisesLength, Doubles).prepare_advantages(inputs=groups).rewards.tolist() == [[0.0, -6.0]]


def test_an_extension_adds_its_own_metrics(hooks, metric_inputs):
    class Counts:
        @hookimpl(wrapper=True)
        def compute_metrics(self, inputs):
            measures = yield
            return {**measures, "counts/rollouts": Sum(float(len(inputs.rewards)))}

    measures = hooks(Counts).compute_metrics(inputs=metric_inputs)
    assert {name: measure.value() for name, measure in measures.items()} == {"reward/mean": 0.5, "counts/rollouts": 2.0}
