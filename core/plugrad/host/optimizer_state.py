"""What an optimizer keeps between two updates: of each parameter, and of its groups."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from plugrad.host.several_optimizers import SeveralOptimizers
from plugrad.registry.option_forms import same

SET_BY_A_RUN = ("params", "param_names", "lr", "initial_lr")
"""Entries of a group that come from the run file and the schedule."""
WRAPPER = "AcceleratedOptimizer"
PLAIN = (bool, int, float, str, type(None))


def parts_of(optimizer: Optimizer) -> list[Optimizer]:
    """Return the optimizers that one object holds, without what wraps them."""
    # Accelerate's wrapper, which only the trainer imports.
    own: Any = getattr(optimizer, "optimizer", None) if type(optimizer).__name__ == WRAPPER else optimizer
    return list(own.parts) if isinstance(own, SeveralOptimizers) else [own]


def classes_of(optimizer: Optimizer) -> list[str]:
    """Return the names of their classes."""
    return [type(part).__name__ for part in parts_of(optimizer)]


def state_of(optimizer: Optimizer, parameter: Tensor) -> Mapping[str, Any]:
    """Return what is kept of a parameter; nothing if it never had a gradient."""
    return next((part.state[parameter] for part in parts_of(optimizer) if parameter in part.state), {})


def set_states(optimizer: Optimizer, states: Mapping[Tensor, Mapping[str, Any]]) -> None:
    """Put back what was kept of every parameter; the others have nothing."""
    for part in parts_of(optimizer):
        part.state.clear()
        for group in part.param_groups:
            part.state.update({p: dict(states[p]) for p in group["params"] if p in states})


def group_states(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return what is kept of each group: entries that no argument of its class sets, if they have changed."""
    return [_kept(part, group) for part in parts_of(optimizer) for group in part.param_groups]


def set_group_states(optimizer: Optimizer, states: Sequence[Mapping[str, Any]]) -> None:
    """Put back what was kept of each group."""
    groups = [group for part in parts_of(optimizer) for group in part.param_groups]
    for group, kept in zip(groups, states, strict=True):
        group.update(kept)


def unsaved(value: Any) -> str:
    """Return the type of what no checkpoint can hold, or the empty string."""
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := unsaved(item))), "")
    if isinstance(value, PLAIN) or type(value) in (Tensor, nn.Parameter):
        return ""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def entries_of(optimizer: Optimizer) -> Iterator[tuple[str, Any]]:
    """Yield everything that is kept, by name."""
    for part in parts_of(optimizer):
        for kept in part.state.values():
            yield from kept.items() if isinstance(kept, Mapping) else [("state", kept)]
    for kept in group_states(optimizer):
        yield from kept.items()


def _kept(part: Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    arguments = inspect.signature(type(part)).parameters
    return {
        key: value.clone() if isinstance(value, Tensor) else value
        for key, value in group.items()
        if key not in SET_BY_A_RUN and key not in arguments and not same(value, part.defaults.get(key))
    }
