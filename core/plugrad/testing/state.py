"""State: what a component keeps between calls must go through `state_dict` and `load_state_dict`."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from plugrad.registry.bind import Component
from plugrad.testing.checks import Broken
from plugrad.testing.numbers import Numbers, compare_numbers

Made = TypeVar("Made")


def declares_state(component: Component) -> bool:
    """Whether it has `state_dict` and `load_state_dict`, which carry state through a checkpoint."""
    target = component.target
    return inspect.isclass(target) and hasattr(target, "state_dict") and hasattr(target, "load_state_dict")


def check_state(
    component: Component,
    fresh: Callable[[], Made],
    instance_of: Callable[[Made], Any],
    call: Callable[[Made, int], Numbers],
) -> str:
    """Check that a call in between changes nothing, or that declared state can be restored.

    Args:
        component: the component on trial.
        fresh: creates a new instance, as a run does.
        instance_of: returns the author's own instance inside it.
        call: calls it on one of two batches.

    Raises:
        Broken: the call in between mattered and no state is declared, or the declared state was not restored.
    """
    used = fresh()
    before = call(used, 0)
    call(used, 1)
    if not declares_state(component):
        return compare_numbers(call(used, 0), before, "Called again after another batch")
    copy = fresh()
    instance_of(copy).load_state_dict(through_a_checkpoint(instance_of(used).state_dict()))
    return f"declared; {compare_numbers(call(copy, 0), call(used, 0), 'Restored from its state_dict')}"


def through_a_checkpoint(state: Any) -> Any:
    """Return state as it comes back from a checkpoint.

    Raises:
        Broken: it cannot be saved.
    """
    try:
        return pickle.loads(pickle.dumps(state))
    except Exception as error:
        raise Broken(f"its state_dict cannot be saved: {type(error).__name__}: {error}") from error
