"""Promises of every kind: options that fit into TOML, an import without side effects, and pickling."""

from __future__ import annotations

import json
import pickle
import tomllib
from typing import Any, Protocol

import tomli_w

from plugrad.errors import OptionError
from plugrad.registry.bind import Component, bind
from plugrad.registry.option_forms import same
from plugrad.shown import shown
from plugrad.testing.checks import Broken, NotApplicable, Promise
from plugrad.testing.workers import worker

IMPORT_LIMIT_S = 120.0


class Trial(Protocol):
    """A component on trial."""

    @property
    def component(self) -> Component:
        """The component."""
        ...


def _check_options_from_toml(trial: Trial) -> str:
    component = trial.component
    recorded = component.forms
    for name, value in component.options.items():
        if value is not None and name not in recorded:
            raise Broken(f"the option {name!r} is {shown(value)}, which TOML cannot hold so that it reads back the same")
    read = tomllib.loads(tomli_w.dumps({"kwargs": recorded}))["kwargs"]
    try:
        again = bind(component.source, component.target, read).options
    except OptionError as error:
        raise Broken(f"its options cannot be read back from TOML: {error}") from error
    for name, value in component.options.items():
        if not same(again[name], value):
            raise Broken(f"the option {name!r} is {shown(value)}, but {shown(again[name])} after a round trip through TOML")
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in recorded.items()) or "it has no options"


def _check_pickles(trial: Trial) -> str:
    made = trial.component.create()
    try:
        copy = pickle.loads(pickle.dumps(made))
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    return f"a copy of type {type(copy).__name__}"


def _check_import_effects(trial: Trial) -> str:
    reference = importable_reference(trial.component)
    with worker("plugrad.testing.effects", trial.component.kind, reference, OMP_NUM_THREADS="1") as process:
        exit_code = process.wait(IMPORT_LIMIT_S)
        if exit_code is None:
            raise Broken(f"importing it in a new process takes more than {IMPORT_LIMIT_S:g} s")
        if exit_code or not process.output:
            raise Broken(f"it cannot be imported in a new process: {process.last_words(exit_code)}")
        effects: list[str] = json.loads(process.output.splitlines()[-1])
    if effects:
        raise Broken("; ".join(effects))
    return "no device, no random state, nothing printed"


def importable_reference(component: Component) -> str:
    """Return a reference under which another process can import the component.

    Raises:
        NotApplicable: it is defined in a function or in the main script.
    """
    target = component.source.target
    if component.source.entry is None and (target.startswith("__main__:") or "<locals>" in target):
        raise NotApplicable("no other process can import it: it is defined in a function or in a script")
    return component.source.reference if component.source.entry is None else target


PORTABLE: tuple[Promise[Any], ...] = (
    Promise(
        "options_from_toml",
        "its options survive a round trip through TOML",
        "The resolved run file is how a run is repeated.",
        "Use numbers, strings, booleans, lists or tables as options, and annotate them: `width: float = 0.2`.",
        _check_options_from_toml,
    ),
    Promise(
        "pickles",
        "the function or instance can be pickled",
        "It is sent to other processes.",
        "Define it at module level, not inside a function. Keep no lambda, file or lock on self.",
        _check_pickles,
    ),
    Promise(
        "import_effects",
        "importing it touches no device, changes no random state and prints nothing",
        "Plugins are imported before devices are assigned to processes. A number drawn at import shifts every later one.",
        "Use devices and generators at call time. Do not print or set a seed at module level.",
        _check_import_effects,
    ),
)
