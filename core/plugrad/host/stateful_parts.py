"""The parts of a run that keep state, each under a key: what a checkpoint saves and restores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugrad.host.advantage import BoundAdvantage
from plugrad.host.environment import BoundEnvironment
from plugrad.host.labels import labels_of
from plugrad.host.loss import BoundLoss
from plugrad.host.metric import BoundMetric
from plugrad.host.plugin_state import keeps_state, restore_state, state_of
from plugrad.registry.bind import Component


@dataclass(frozen=True)
class StatefulPart:
    """A component of a run with `state_dict` and `load_state_dict`."""

    key: str
    """Its kind and its label in the run, as in `loss/kl_2`. The same run file gives the same keys."""
    component: Component
    instance: object
    """The author's own object, which the run calls."""

    def state(self) -> dict[str, Any]:
        """Return a copy of its state, which `torch.save` can save and `torch.load(weights_only=True)` can load.

        Raises:
            ContractError: it raised, or returned what cannot be saved.
        """
        return state_of(self.component, self.instance)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Give it a copy of a state.

        Raises:
            ContractError: it raised.
        """
        restore_state(self.component, self.instance, state)


def stateful_parts(
    *,
    environment: BoundEnvironment,
    advantage: BoundAdvantage,
    losses: Sequence[BoundLoss],
    metrics: Sequence[BoundMetric],
    extensions: Sequence[tuple[Component, Any]],
    held_out: Sequence[StatefulPart] = (),
) -> list[StatefulPart]:
    """Return the parts of a run that keep state, in the order of `Selection.components`, under keys that are all different.

    Args:
        environment: of the run.
        advantage: of the run.
        losses: of the run.
        metrics: those of the evaluation too, whose labels begin with what the names of their numbers begin with.
        extensions: with their components.
        held_out: what else scores held-out completions.

    Raises:
        ContractError: one has `state_dict` without `load_state_dict`, or the reverse.
    """

    def found() -> Iterator[StatefulPart]:
        yield StatefulPart(f"environment/{environment.component.name}", environment.component, environment.environment)
        yield StatefulPart(f"advantage/{advantage.component.name}", advantage.component, advantage.call)
        for loss in losses:
            yield StatefulPart(f"loss/{loss.label}", loss.component, loss.instance)
        for metric in metrics:
            yield StatefulPart(f"metric/{metric.label}", metric.component, metric.call)
        labels = labels_of(component.name for component, _ in extensions)
        for label, (component, extension) in zip(labels, extensions, strict=True):
            yield StatefulPart(f"extension/{label}", component, extension)
        yield from held_out

    return [part for part in found() if keeps_state(part.component, part.instance)]
