"""`plugrad.load`: load one component by name, for use in any training loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plugrad.contracts.markers import LossFacts
from plugrad.host.advantage import BoundAdvantage
from plugrad.host.loaded import LoadedAdvantage, LoadedLoss, LoadedMetric
from plugrad.host.loss import BoundLoss
from plugrad.host.metric import BoundMetric
from plugrad.paths import working_directory
from plugrad.registry.bind import Component, bind
from plugrad.registry.resolve import load as load_source
from plugrad.registry.resolve import resolve, search_modules_in
from plugrad.registry.scan import Catalogue, Kind, known_kind, scan


def load(kind: Kind, reference: str, /, **options: Any) -> Any:
    """Find a component by name, check its options, and return it ready to call.

    Args:
        kind: "loss", "advantage", "metric", "environment" or "extension".
        reference: `name`, `package/name`, `module:function` or `file.py:function`.
        options: its options. Omitted options take their defaults.

    Returns:
        A `LoadedLoss`, `LoadedAdvantage` or `LoadedMetric`, called with the inputs of its kind and checked as in a run; or
        the environment or extension itself.

    Raises:
        PluginError: there is no such kind, or the component is not found or cannot be imported.
        OptionError: the component does not take these options.
    """
    kind, folders = known_kind(kind), [working_directory()]
    component = load_component(kind, reference, options, scan(), folders)
    if kind == "loss":
        assert isinstance(component.facts, LossFacts)
        return LoadedLoss(BoundLoss.create(component, label=component.name, weight=1.0, reduction=component.facts.reduction))
    if kind == "advantage":
        return LoadedAdvantage(BoundAdvantage(component, component.create()))
    if kind == "metric":
        return LoadedMetric(BoundMetric(component, component.create(), component.name))
    return component.create()


def load_component(
    kind: Kind, reference: str, options: dict[str, Any], catalogue: Catalogue, folders: Sequence[Path]
) -> Component:
    """Resolve, load and bind one component."""
    source = resolve(kind, reference, catalogue, folders)
    search_modules_in(folders)
    return bind(source, load_source(source), options, folders)
