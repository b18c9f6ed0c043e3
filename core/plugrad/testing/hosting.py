"""The host around a component on trial: core's real hooks with one extension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.loss import BatchLossInputs, LossOutputs
from plugrad.contracts.markers import loss
from plugrad.contracts.measures import Mean, Measure
from plugrad.contracts.metric import MetricInputs
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.hooks import Hooks, Host
from plugrad.host.loss import BoundLoss
from plugrad.host.metric import BoundMetric
from plugrad.registry.bind import Component, bind
from plugrad.registry.resolve import Source
from plugrad.registry.scan import Kind


def no_advantage(inputs: AdvantageInputs) -> AdvantageOutputs:
    """Return the rewards unchanged. Every host needs an advantage."""
    return AdvantageOutputs(inputs.rewards)


@loss(needs={"old_logprobs", "entropy"})
def off_policy_gradient(inputs: BatchLossInputs) -> LossOutputs:
    """-r A, with r = pi / pi_old: a loss that an extension can prepare."""
    assert inputs.old_logprobs is not None
    ratio = (inputs.trainer_logprobs - inputs.old_logprobs).exp()
    return LossOutputs(-ratio * inputs.advantages * inputs.loss_mask)


def mean_reward(inputs: MetricInputs) -> dict[str, Measure]:
    """Return the mean reward: a metric that an extension must leave in place."""
    return {"mean": Mean.of(inputs.rewards)}


def hooks_around(extension: Any, name: str = "kit") -> Hooks:
    """Return core's hooks with this extension around them."""
    source = Source("extension", f"{__name__}:{name}", name, f"{__name__}:{name}")
    return hooks_of(Component(source, type(extension), {}, None, "sequence"), extension)


def hooks_of(component: Component, extension: Any, metrics: Sequence[BoundMetric] = ()) -> Hooks:
    """Return core's hooks with an instance of this component around them."""
    advantage = _own("advantage", no_advantage)
    return Hooks(Host(BoundAdvantage(advantage, advantage.create()), list(metrics)), [(component, extension)])


def bound_loss() -> BoundLoss:
    """Return `off_policy_gradient` as a run binds it."""
    return BoundLoss.create(_own("loss", off_policy_gradient), label="kit", weight=1.0, reduction="token")


def bound_metric() -> BoundMetric:
    """Return `mean_reward` as a run binds it."""
    component = _own("metric", mean_reward)
    return BoundMetric(component, component.create(), "kit")


def _own(kind: Kind, target: Callable[..., Any]) -> Component:
    reference = f"{__name__}:{target.__name__}"
    return bind(Source(kind, reference, target.__name__, reference), target, {})
