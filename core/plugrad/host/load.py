"""`plugrad.load`: load one component by name, for use in any training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugrad.contracts.loss import BatchLossInputs, LossInputs, LossOutputs
from plugrad.contracts.markers import LossFacts
from plugrad.errors import ContractError
from plugrad.host.loss import BoundLoss, compute_loss, sum_rows
from plugrad.host.sequence_adapter import as_batch
from plugrad.paths import working_directory
from plugrad.registry.bind import Component, bind
from plugrad.registry.resolve import load as load_source
from plugrad.registry.resolve import resolve, search_modules_in
from plugrad.registry.scan import Catalogue, Kind, scan


@dataclass(frozen=True)
class LoadedLoss:
    """A loss with its options bound. Call it with either form of the inputs; `needs` names the optional fields it reads."""

    bound: BoundLoss

    @property
    def needs(self) -> frozenset[str]:
        """The optional input fields that it reads."""
        return self.bound.needs

    @property
    def reduction(self) -> str:
        """The reduction that the loss declares."""
        return self.bound.reduction

    @property
    def options(self) -> dict[str, Any]:
        """Its options, including defaults."""
        return dict(self.bound.component.options)

    def __call__(self, inputs: LossInputs | BatchLossInputs) -> LossOutputs:
        """Return the summed loss of one sequence (a scalar), or the losses `[batch]` or `[batch, seq]` of a micro-batch.

        Raises:
            ContractError: a field that the loss needs is None, the loss raised, or its result is not a loss.
        """
        missing = sorted(need for need in self.needs if getattr(inputs, need) is None)
        if missing:
            raise ContractError(
                f"{self.bound.component} needs {', '.join(missing)}: pass {type(inputs).__name__}({missing[0]}=...)."
            )
        if isinstance(inputs, BatchLossInputs):
            return compute_loss(self.bound, inputs)
        batch = as_batch(inputs)
        outputs = compute_loss(self.bound, batch)
        return LossOutputs(sum_rows(outputs, batch.loss_mask)[0], outputs.metrics)


def load(kind: Kind, reference: str, /, **options: Any) -> Any:
    """Find a component by name, check its options, and return it ready to call.

    Args:
        kind: "loss", "advantage", "metric", "environment" or "extension".
        reference: `name`, `package/name`, `module:function` or `file.py:function`.
        options: its options. Omitted options take their defaults.

    Returns:
        A `LoadedLoss` for a loss, a callable from inputs to outputs for an advantage or metric, or the environment or
        extension itself.

    Raises:
        PluginError: the component is not found, or cannot be imported.
        OptionError: the component does not take these options.
    """
    folders = [working_directory()]
    component = load_component(kind, reference, options, scan(), folders)
    if kind != "loss":
        return component.create()
    assert isinstance(component.facts, LossFacts)
    return LoadedLoss(BoundLoss.create(component, label=component.name, weight=1.0, reduction=component.facts.reduction))


def load_component(
    kind: Kind, reference: str, options: dict[str, Any], catalogue: Catalogue, folders: Sequence[Path]
) -> Component:
    """Resolve, load and bind one component."""
    source = resolve(kind, reference, catalogue, folders)
    search_modules_in(folders)
    return bind(source, load_source(source), options, folders)
