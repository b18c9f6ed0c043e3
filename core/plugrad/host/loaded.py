"""Components outside a run: loaded by name, with their options bound and the checks of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from plugrad.contracts.advantage import AdvantageInputs, AdvantageOutputs
from plugrad.contracts.loss import BatchLossInputs, LossInputs, LossOutputs
from plugrad.contracts.markers import AdvantageFacts
from plugrad.contracts.measures import Measure
from plugrad.contracts.metric import MetricInputs
from plugrad.contracts.model_sizes import ModelSizes
from plugrad.errors import ContractError, OptionError, PluginError
from plugrad.host.advantage import BoundAdvantage, compute_advantages
from plugrad.host.loss import BoundLoss, compute_loss, sum_rows
from plugrad.host.metric import BoundMetric, compute_metric
from plugrad.host.own_inputs import prepared_groups, prepared_rows, with_one_argument
from plugrad.host.plugin_state import restore_state, state_of
from plugrad.host.sequence_adapter import as_batch
from plugrad.registry.bind import Component


class _Loaded:
    """What every loaded component has."""

    bound: BoundLoss | BoundAdvantage | BoundMetric

    @property
    def needs(self) -> frozenset[str]:
        """The optional input fields that it reads."""
        return self.bound.component.needs

    @property
    def options(self) -> dict[str, Any]:
        """Its options, including defaults."""
        return dict(self.bound.component.options)

    def state_dict(self) -> dict[str, Any]:
        """Return its state; empty if it keeps none.

        Raises:
            ContractError: it raised, or returned no mapping.
        """
        return state_of(self.bound.component, self._instance)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore its state.

        Raises:
            ContractError: it raised, or it keeps no state.
        """
        restore_state(self.bound.component, self._instance, state)

    @property
    def _instance(self) -> object:
        return self.bound.instance if isinstance(self.bound, BoundLoss) else self.bound.call


@dataclass(frozen=True)
class LoadedLoss(_Loaded):
    """A loss with its options bound. Call it with either form of the inputs; `needs` names the optional fields it reads."""

    bound: BoundLoss

    @property
    def reduction(self) -> str:
        """The reduction that the loss declares."""
        return self.bound.reduction

    @with_one_argument
    def __call__(self, inputs: LossInputs | BatchLossInputs) -> LossOutputs:
        """Return the summed loss of one sequence (a scalar), or the losses `[batch]` or `[batch, seq]` of a micro-batch.

        It is computed in float32 at least, whatever the inputs are; `backward` reaches 16-bit tensors. The loss sees 0 in
        every slot that is masked. What was there changes nothing and gets no gradient.

        Raises:
            ContractError: a field that the loss needs is None, the loss raised, or its result is not a loss.
        """
        _check_inputs(self.bound.component, inputs, (LossInputs, BatchLossInputs))
        if self.bound.trains and inputs.parameters is None:
            raise ContractError(
                f"{self.bound.component} trains parameters of its own, and inputs.parameters is None.",
                fix="Make them once, module = loss.trained(plugrad.ModelSizes(...)), give them to your optimizer, and pass "
                f"{type(inputs).__name__}(parameters=dict(module.named_parameters())).",
            )
        if isinstance(inputs, BatchLossInputs):
            return compute_loss(self.bound, prepared_rows(inputs))
        batch = prepared_rows(as_batch(inputs))
        outputs = compute_loss(self.bound, batch)
        return LossOutputs(sum_rows(outputs, batch.loss_mask)[0], outputs.metrics)

    def trained(self, sizes: ModelSizes, seed: int = 0) -> nn.Module:
        """Return the module whose parameters the loss trains, made for a model of these sizes.

        Give its parameters to your optimizer, and pass them on: `parameters=dict(module.named_parameters())` in the inputs.

        Raises:
            PluginError: it has no parameters of its own.
            ContractError: it raised, or made something that cannot be trained.
        """
        if not self.bound.trains:
            raise PluginError(f"{self.bound.component} has no method `trained`, and no parameters of its own.")
        return self.bound.trained(sizes, seed)

    def after_update(self, measures: Mapping[str, float]) -> None:
        """Tell the loss what an update measured of it, once per update. It does nothing if the loss has no `after_update`.

        Raises:
            ContractError: the loss raised.
        """
        self.bound.after_update(measures)


@dataclass(frozen=True)
class LoadedAdvantage(_Loaded):
    """An advantage with its options bound. `needs` names the optional fields it reads."""

    bound: BoundAdvantage

    @property
    def min_rollouts_per_example(self) -> int:
        """The fewest rollouts per example that it declares."""
        assert isinstance(self.bound.component.facts, AdvantageFacts)
        return self.bound.component.facts.min_rollouts_per_example

    @with_one_argument
    def __call__(self, inputs: AdvantageInputs) -> AdvantageOutputs:
        """Return the advantages, computed in float64.

        Raises:
            OptionError: there are fewer rollouts per example than it needs.
            ContractError: a field that it needs is None, a reward is not finite, it raised, or it did not return one finite
                advantage per rollout or per completion token.
        """
        component = self.bound.component
        _check_inputs(component, inputs, (AdvantageInputs,))
        found = inputs.rewards.shape[1]
        if found < self.min_rollouts_per_example:
            raise OptionError(
                f"{component} needs at least {self.min_rollouts_per_example} rollouts per example, and the rewards have "
                f"{found}. Sample more, or choose another advantage."
            )
        return compute_advantages(self.bound, prepared_groups(str(component), inputs))


@dataclass(frozen=True)
class LoadedMetric(_Loaded):
    """A metric with its options bound. `needs` names the optional fields it reads."""

    bound: BoundMetric

    @with_one_argument
    def __call__(self, inputs: MetricInputs) -> dict[str, Measure]:
        """Return its measures by name. It is computed in float32 at least, with 0 in every slot that is masked.

        Raises:
            ContractError: a field that the metric needs is None, it raised, or it did not return a mapping of measures.
        """
        _check_inputs(self.bound.component, inputs, (MetricInputs,))
        measures = compute_metric(self.bound, prepared_rows(inputs))
        return {name.removeprefix(f"{self.bound.label}/"): measure for name, measure in measures.items()}


def _check_inputs(component: Component, inputs: object, forms: Collection[type]) -> None:
    names = " or ".join(f"plugrad.{form.__name__}" for form in forms)
    if not isinstance(inputs, tuple(forms)):
        raise ContractError(f"{component} was called with {type(inputs).__name__}; it takes {names}.")
    if isinstance(inputs, LossInputs) and "again" in component.needs:
        raise ContractError(f"{component} needs again, which is of several sequences: pass BatchLossInputs(again=...).")
    missing = sorted(need for need in component.needs if getattr(inputs, need) is None)
    if missing:
        raise ContractError(f"{component} needs {', '.join(missing)}: pass {type(inputs).__name__}({missing[0]}=...).")
