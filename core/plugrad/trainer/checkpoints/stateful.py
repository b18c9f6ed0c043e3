"""The components of a run that may keep state, each under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plugrad.host.environment import BoundEnvironment
from plugrad.host.select import Selection
from plugrad.registry.bind import Component

Plugins = Mapping[str, tuple[Component, object]]


def stateful(selection: Selection, environment: BoundEnvironment, extensions: Sequence[tuple[Component, object]]) -> Plugins:
    """Return every component and the instance that runs, by kind and place in the run."""
    return {
        "environment": (environment.component, environment.environment),
        "advantage": (selection.advantage.component, selection.advantage.call),
        **{f"loss/{loss.label}": (loss.component, loss.instance) for loss in selection.losses},
        **{f"metric/{metric.label}": (metric.component, metric.call) for metric in selection.metrics},
        **{f"extension/{place}": pair for place, pair in enumerate(extensions)},
    }
