"""Try the state of a component: what it saves can be saved, comes back, and is all that it remembers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from plugrad.host.plugin_state import keeps_state, restore_state, state_of
from plugrad.host.remembered import changed_attributes, remembered
from plugrad.registry.bind import Component

logger = logging.getLogger("plugrad")

SHOWN = 3
"""Attributes that a message names."""


@contextmanager
def trying_state(component: Component, instance: object) -> Iterator[None]:
    """Call a component in the body. Its state is saved and loaded afterwards, and put back to what it was before.

    A component without `state_dict` is told of if calls change its attributes: a run that resumes would lose them.

    Raises:
        ContractError: it has `state_dict` without `load_state_dict` or the reverse, one of them raised, or it returned what
            cannot be saved.
    """
    if not keeps_state(component, instance):
        attributes = remembered(instance)
        yield
        changed = changed_attributes(attributes, remembered(instance))
        if changed:
            logger.warning("%s %s.", component, unsaved(changed))
        return
    before = state_of(component, instance)
    yield
    restore_state(component, instance, state_of(component, instance))
    restore_state(component, instance, before)


def unsaved(changed: list[str]) -> str:
    """Say that these attributes are lost with a run, and what to write."""
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return (
        f"changes {', '.join(changed[:SHOWN])}{more} when it is called, and has no state_dict: a run that is resumed starts "
        "without what it kept. Write state_dict(self), which returns what later calls depend on ({} if nothing does, as for "
        "a cache), and load_state_dict(self, state)"
    )
