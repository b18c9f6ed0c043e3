"""The state that a plugin keeps between calls: `state_dict()` and `load_state_dict(state)`, as in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugrad.errors import ContractError
from plugrad.host.calling import call_plugin
from plugrad.registry.bind import Component


def state_of(component: Component, instance: object) -> dict[str, Any]:
    """Return a plugin's state; empty if it has no `state_dict`.

    Raises:
        ContractError: it raised, or returned no mapping.
    """
    method = getattr(instance, "state_dict", None)
    if method is None:
        return {}
    owner = f"{component}.state_dict"
    state = call_plugin(owner, method)
    if not isinstance(state, Mapping):
        raise ContractError(f"{owner}() returned {type(state).__name__}; return a mapping from names to values.")
    return dict(state)


def restore_state(component: Component, instance: object, state: Mapping[str, Any]) -> None:
    """Give a plugin its state back.

    Raises:
        ContractError: it raised, or it has no `load_state_dict` and there is a state.
    """
    method = getattr(instance, "load_state_dict", None)
    if method is not None:
        call_plugin(f"{component}.load_state_dict", method, state)
    elif state:
        raise ContractError(f"{component} has no load_state_dict, but was given a state with {', '.join(sorted(state))}.")
