"""State: what a component keeps between calls is all in its `state_dict`, and `load_state_dict` puts it back."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from plugrad.host.plugin_state import keeps_state, restore_state, state_of
from plugrad.host.remembered import changed_attributes, comparable, remembered
from plugrad.host.state_trial import unsaved
from plugrad.registry.bind import Component
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.numbers import Numbers, compare_numbers

Made = TypeVar("Made")

BEFORE, AFTER = (0, 1), (2, 3)
"""The batches before the checkpoint and after it."""
EXACT = 0.0


def check_state(
    component: Component,
    fresh: Callable[[], Made],
    instance_of: Callable[[Made], object],
    call: Callable[[Made, int], Numbers],
) -> str:
    """Check that a call in between changes nothing, unless state is declared.

    Args:
        component: the component on trial.
        fresh: creates a new instance, as a run does.
        instance_of: returns the author's own instance inside it.
        call: calls it on one of two batches.

    Raises:
        Broken: the call in between mattered.
        NotApplicable: it declares state.
    """
    used = fresh()
    if keeps_state(component, instance_of(used)):
        raise NotApplicable("it has state_dict and load_state_dict: see resumes")
    before = call(used, 0)
    call(used, 1)
    return compare_numbers(call(used, 0), before, "Called again after another batch")


def check_resumes(
    component: Component,
    fresh: Callable[[], Made],
    instance_of: Callable[[Made], object],
    use: Callable[[Made, int], Numbers],
    may_vary: Callable[[str], bool] = lambda name: False,
) -> str:
    """Check that a new instance which is given the state of another one goes on as that one does, to the bit.

    Where no state is declared, the new instance is given none. If attributes change and no number depends on them, the
    component passes with a warning: they may matter later, or not at all.

    Args:
        component: the component on trial.
        fresh: creates a new instance, as a run does.
        instance_of: returns the author's own instance inside it.
        use: uses it on one of four batches, as a step does.
        may_vary: whether a number may differ between two runs without a stop, as one that a clock gives. Where it does, it
            is not compared.

    Raises:
        Broken: it goes on differently.
        NotApplicable: it keeps no state.
    """
    whole = fresh()
    before = remembered(instance_of(whole))
    for batch in BEFORE:
        use(whole, batch)
    changed = changed_attributes(before, remembered(instance_of(whole)))
    keeps = keeps_state(component, instance_of(whole))
    if not keeps and not changed:
        raise NotApplicable("it keeps no state")
    expected = {batch: use(whole, batch) for batch in AFTER}
    stopped, resumed = fresh(), fresh()
    for batch in BEFORE:
        use(stopped, batch)
    saved = state_of(component, instance_of(stopped))
    again = {batch: use(stopped, batch) for batch in AFTER}
    restore_state(component, instance_of(resumed), through_a_checkpoint(saved))
    _check_restored(state_of(component, instance_of(resumed)), saved)
    how = "Resumed from what state_dict returned" if keeps else f"Resumed without {', '.join(changed)}, which nothing saves"
    for batch in AFTER:
        varying = {name for name, value in again[batch].items() if may_vary(name) and expected[batch].get(name) != value}
        wanted, repeated, found = (_without(varying, n) for n in (expected[batch], again[batch], use(resumed, batch)))
        compare_numbers(repeated, wanted, "In a second instance that was used as the first", EXACT)
        compare_numbers(found, wanted, how, EXACT)
    if not keeps:
        return f"warning: it {unsaved(changed)}"
    return f"the same to the bit, with {', '.join(map(str, saved)) or 'nothing'} saved"


def remembers(instance: object, use: Callable[[], object]) -> bool:
    """Return whether use changes attributes of an instance."""
    before = remembered(instance)
    use()
    return bool(changed_attributes(before, remembered(instance)))


def through_a_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    """Return state as it comes back from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def resumes_promise(check: Callable[[Any], str]) -> Promise[Any]:
    """Return the promise that a component makes about a run which is stopped and resumed."""
    return Promise(
        "resumes",
        "saved, loaded into a new instance and used on, it does the same as without a stop, to the bit",
        "A run that is resumed from a checkpoint has new instances. What they lack changes the rest of the run, and no "
        "error says so.",
        "Return from state_dict() all that later calls depend on, a generator's state included: self._random.getstate(), or "
        "get_state() of a torch.Generator. Put back every entry in load_state_dict(state).",
        check,
        after=("state", "deterministic"),
    )


def _without(names: set[str], numbers: Numbers) -> Numbers:
    return {name: value for name, value in numbers.items() if name not in names}


def _check_restored(found: dict[str, Any], saved: dict[str, Any]) -> None:
    for name in [*saved, *found]:
        if name not in found or name not in saved or comparable(found[name]) != comparable(saved[name]):
            raise Broken(f"after load_state_dict(state), state_dict()[{name!r}] is not what was saved")
