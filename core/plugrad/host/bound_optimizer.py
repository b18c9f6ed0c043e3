"""The optimizer of a run file: its class with checked options, ready to be given parameters."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.optim import AdamW, Optimizer

from plugrad.config.tables.optimizer_table import OptimizerTable
from plugrad.errors import OptionError, PluginError
from plugrad.host.optimizer_class import find_optimizer
from plugrad.registry.bind import Component, bind
from plugrad.registry.blame import Blamed, told
from plugrad.registry.option_types import validated
from plugrad.registry.options import is_checked
from plugrad.registry.resolve import Source
from plugrad.registry.signature import hints_of, with_less
from plugrad.shown import shown

KEYS: Mapping[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
"""The keys of `[optimizer]` that a class may take, each with a value that it then takes."""
NOT_OPTIONS = {
    "lr": "it is the key optimizer.lr",
    "maximize": "a run minimises its losses; give a loss a negative weight to turn it around",
    "differentiable": "it is for gradients through the optimizer, of which a run has none",
    "capturable": "it is for CUDA graphs, which a run does not record",
}
"""What plugrad sets or leaves as it is, and why."""


@dataclass(frozen=True)
class BoundOptimizer:
    """A class of optimizers with its options."""

    component: Component
    """For the record. Its options are those of `kwargs`, defaults included."""
    cls: type[Optimizer]
    keys: Mapping[str, Any]
    """Those of `betas`, `eps` and `weight_decay` that the class takes, with their values."""
    rest: BoundOptimizer | None = None
    """The optimizer of all other parameters, where the class takes matrices alone."""

    def create(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], lr: float, **more: Any) -> Optimizer:
        """Make the optimizer.

        Raises:
            OptionError: the class refuses the values of its options.
        """
        options = {**self.component.options, **self.keys, **more}
        with Blamed(str(self.component), lambda error: self._not_created(options, error)):
            return self.cls(params, lr=lr, **options)  # type: ignore[call-arg]

    @property
    def takes_decay(self) -> bool:
        """Whether parameters can have a weight decay."""
        return "weight_decay" in self.keys

    @property
    def usual(self) -> BoundOptimizer:
        """The optimizer that takes `betas` and `eps`: of the matrices' one, that of the rest."""
        return self.rest or self

    def filled(self, table: OptimizerTable) -> OptimizerTable:
        """Return the table with every option written out, as a resolved run file has it."""
        named = {"name": self.component.source.reference, "kwargs": dict(self.component.forms)}
        keys = {key: list(value) if isinstance(value, tuple) else value for key, value in self.usual.keys.items()}
        try:
            return OptimizerTable.model_validate({**table.model_dump(), **named, **keys})
        except ValidationError:
            # A default of the class that the key does not take: a run file that does not name it means it.
            return table.model_copy(update=named)

    def _not_created(self, options: Mapping[str, Any], error: BaseException) -> OptionError:
        values = ", ".join(f"{name}={shown(value)}" for name, value in options.items())
        return OptionError(f"{self.component} cannot be created with {values or 'its defaults'}: {told(error)}")


def bound_optimizer(table: OptimizerTable, folders: Sequence[Path]) -> BoundOptimizer:
    """Find the class of `[optimizer]`, and check `kwargs` and the keys that are for some classes alone.

    Raises:
        PluginError: there is no such class, or it cannot be imported.
        OptionError: it does not take these options.
    """
    source, cls = find_optimizer(table.name, folders)
    with Blamed(str(source), lambda e: PluginError(f"{source} cannot be used: reading its signature raised {told(e)}")):
        parameters = _parameters(cls)
    if "lr" not in parameters:
        raise PluginError(f"{source} has no parameter `lr`, which the schedule of a run sets. Choose another, or add it.")
    if _takes_matrices_alone(cls, table):
        rest = bound_optimizer(table.model_copy(update={"name": AdamW.__name__, "kwargs": {}}), folders)
        own = {"weight_decay": table.weight_decay} if _fits(cls, "weight_decay") else {}
        return BoundOptimizer(_component(source, cls, table, own, folders), cls, own, rest)
    keys = _keys(source, cls, table)
    return BoundOptimizer(_component(source, cls, table, keys, folders), cls, keys)


def _keys(source: Source, cls: type[Optimizer], table: OptimizerTable) -> dict[str, Any]:
    """Return the keys of the table that the class takes; where one is not given, with the default of the class."""
    given = {"betas": table.betas and tuple(table.betas), "eps": table.eps, "weight_decay": table.weight_decay}
    parameters, taken = _parameters(cls), {}
    for key, value in given.items():
        if _fits(cls, key):
            taken[key] = parameters[key].default if value is None else value
            if taken[key] is inspect.Parameter.empty:
                raise OptionError(f"{source} needs {key}: set optimizer.{key}.")
        elif value:
            why = "takes another kind of" if key in parameters else "takes no"
            instead = f", or set optimizer.kwargs.{key}" if key in parameters else ""
            raise OptionError(
                f"optimizer.{key} is {shown(getattr(table, key))}, and {source} {why} {key}. Leave it out{instead}. "
                f"The class takes {', '.join(parameters)}."
            )
    return taken


def _component(
    source: Source, cls: type[Optimizer], table: OptimizerTable, keys: Mapping[str, Any], folders: Sequence[Path]
) -> Component:
    for name in table.kwargs:
        if name in keys:
            raise OptionError(f"[optimizer.kwargs] {name}: it is a key of its own. Write optimizer.{name}.")
        if name in NOT_OPTIONS:
            raise OptionError(f"[optimizer.kwargs] {name}: {NOT_OPTIONS[name]}. Leave it out.")
    component = bind(source, with_less(cls, {_first(cls), *keys, *NOT_OPTIONS}), table.kwargs, folders)
    # Before a model loads: an option that the resolved run file could not repeat is refused.
    _ = component.forms
    return replace(component, code=cls)


def _parameters(cls: type[Optimizer]) -> dict[str, inspect.Parameter]:
    return {name: parameter for name, parameter in inspect.signature(cls).parameters.items() if name != _first(cls)}


def _first(cls: type[Optimizer]) -> str:
    """Return the name of the argument that takes the parameters to update."""
    return next(iter(inspect.signature(cls).parameters), "")


def _fits(cls: type[Optimizer], key: str) -> bool:
    """Return whether the class has a parameter of this name that takes what the key of the run file holds."""
    parameter, value = _parameters(cls).get(key), KEYS[key]
    if parameter is None:
        return False
    annotation = hints_of(cls).get(key, parameter.annotation)
    if is_checked(annotation):
        try:
            validated(annotation, value)
        except (ValidationError, ValueError):
            return False
        return True
    default = parameter.default
    is_pair = isinstance(default, tuple) and len(default) == len(KEYS["betas"])
    return is_pair if isinstance(value, tuple) else isinstance(default, int | float)


def _takes_matrices_alone(cls: type[Optimizer], table: OptimizerTable) -> bool:
    # Without its options first: the errors of options are told where they are checked.
    options = next((o for o in ({}, table.kwargs) if _takes(cls, torch.zeros(2, 2), table.lr, o)), None)
    return options is not None and not _takes(cls, torch.zeros(2), table.lr, options)


def _takes(cls: type[Optimizer], parameter: Tensor, lr: float, options: Mapping[str, Any]) -> bool:
    try:
        cls([parameter.requires_grad_()], lr=lr, **options)  # type: ignore[call-arg]
    except Exception:
        return False
    return True
