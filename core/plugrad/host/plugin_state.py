"""The state that a plugin keeps between calls: `state_dict()` and `load_state_dict(state)`, as in PyTorch.

What is returned and given is a copy of plain values, so that a checkpoint holds what was at that moment, can be loaded with
`torch.load(weights_only=True)`, and shares nothing with a plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plugrad.errors import ContractError
from plugrad.host.calling import blaming, call_plugin
from plugrad.host.saved_values import copy_for_checkpoint
from plugrad.registry.bind import Component

SAVES, LOADS = "state_dict", "load_state_dict"
WRITTEN = {
    SAVES: "state_dict(self), which returns what it keeps between calls as a dict",
    LOADS: "load_state_dict(self, state), which puts back what state_dict returned",
}


def keeps_state(component: Component, instance: object) -> bool:
    """Return whether a plugin's instance has `state_dict` and `load_state_dict`. A function has neither.

    Raises:
        ContractError: it has one of them without the other, or something else of that name.
    """
    with blaming(str(component)):
        methods = {name: getattr(instance, name, None) for name in (SAVES, LOADS)}
    for name, method in methods.items():
        if method is not None and not callable(method):
            raise ContractError(f"{component} has an attribute {name}, which is no method. Write {WRITTEN[name]}.")
    has, lacks = [name for name in methods if methods[name]], [name for name in methods if not methods[name]]
    if has and lacks:
        cannot = "restored" if SAVES in has else "saved"
        raise ContractError(
            f"{component} has {has[0]} and no {lacks[0]}, so that its state cannot be {cannot}.",
            fix=f"Write {WRITTEN[lacks[0]]}.",
        )
    return bool(has)


def state_of(component: Component, instance: object) -> dict[str, Any]:
    """Return a copy of a plugin's state, which later calls do not change; empty if it keeps none.

    Tensors in it are detached, and on the CPU. `torch.load(weights_only=True)` gives back exactly what is returned.

    Raises:
        ContractError: it has one of the two methods only, its `state_dict` raised, returned no mapping, or returned a value
            that could not be saved. Names the place in the state, and what to write instead.
    """
    if not keeps_state(component, instance):
        return {}
    owner = f"{component}.{SAVES}"
    state = call_plugin(owner, instance.state_dict)  # type: ignore[attr-defined]
    if not isinstance(state, Mapping):
        raise ContractError(f"{owner}() returned {type(state).__name__}; return a mapping from names to values.")
    copied: dict[str, Any] = copy_for_checkpoint(dict(state), f"{SAVES}()", str(component))
    return copied


def restore_state(component: Component, instance: object, state: Mapping[str, Any]) -> None:
    """Give a plugin its state back, as a copy of `state`.

    Raises:
        ContractError: its `load_state_dict` raised, it has one of the two methods only, or neither and there is a state.
    """
    if keeps_state(component, instance):
        owner = f"{component}.{LOADS}"
        copied = copy_for_checkpoint(dict(state), "the state", owner)
        call_plugin(owner, instance.load_state_dict, copied)  # type: ignore[attr-defined]
    elif state:
        raise ContractError(f"{component} has no load_state_dict, but was given a state with {', '.join(sorted(state))}.")
