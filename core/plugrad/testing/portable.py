"""Promises of every kind: options that a run file can say, an import without side effects, and a copy by pickle."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Protocol

import tomli_w

from plugrad.errors import OptionError
from plugrad.registry.bind import Component, bind
from plugrad.registry.provenance import plain
from plugrad.testing.checks import Broken, NotApplicable, Promise

IMPORT_LIMIT_S = 120.0


class Trial(Protocol):
    """A component on trial."""

    @property
    def component(self) -> Component:
        """Which."""
        ...


def _check_options_from_toml(trial: Trial) -> str:
    component = trial.component
    said = {name: plain(value) for name, value in component.options.items() if value is not None}
    read = tomllib.loads(tomli_w.dumps({"kwargs": said}))["kwargs"]
    try:
        again = bind(component.source, component.target, read).options
    except OptionError as error:
        raise Broken(f"written to TOML as it is recorded and read again: {error}") from error
    for name, value in component.options.items():
        if repr(again[name]) != repr(value):
            raise Broken(f"the option {name!r} is {value!r}, and {again[name]!r} after being written to TOML and read again")
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in said.items()) or "it has no options"


def _check_pickles(trial: Trial) -> str:
    made = trial.component.create()
    try:
        copy = pickle.loads(pickle.dumps(made))
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    return f"a copy of type {type(copy).__name__}"


def _check_import_effects(trial: Trial) -> str:
    reference = importable_reference(trial.component)
    command = [sys.executable, "-m", "plugrad.testing.effects", trial.component.kind, reference]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment_of_this_process(), timeout=IMPORT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Broken(f"in a process of its own it is not imported within {IMPORT_LIMIT_S:g} s") from error
    if done.returncode:
        raise Broken(f"in a process of its own it does not import: {last_line(done.stderr)}")
    effects: list[str] = json.loads(done.stdout.splitlines()[-1])
    if effects:
        raise Broken("; ".join(effects))
    return "no device, no random state, nothing printed"


def importable_reference(component: Component) -> str:
    """Return a reference under which another process finds the component.

    Raises:
        NotApplicable: it has none, being defined in a function or in the main script.
    """
    target = component.source.target
    if component.source.entry is None and (target.startswith("__main__:") or "<locals>" in target):
        raise NotApplicable("no other process can import it: it is defined in a function or in a script")
    return component.source.reference if component.source.entry is None else target


def last_line(text: str) -> str:
    """Return the last line that a process printed: of a traceback, the error."""
    return next(reversed(text.strip().splitlines()), "nothing printed")


def environment_of_this_process() -> dict[str, str]:
    """Return the environment variables under which another process finds the same modules."""
    folders = [folder or str(Path.cwd()) for folder in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}


PORTABLE: tuple[Promise[Any], ...] = (
    Promise(
        "options_from_toml",
        "its options, as they are recorded, can be read from a run file again",
        "The resolved run file is how a run is repeated.",
        "Let options be numbers, strings, booleans, lists or tables, and annotate them: `width: float = 0.2`.",
        _check_options_from_toml,
    ),
    Promise(
        "pickles",
        "what is called can be pickled",
        "It goes to other processes, and what has state into checkpoints.",
        "Define it at the top of a module, not inside a function, and keep no lambda, file or lock on self.",
        _check_pickles,
    ),
    Promise(
        "import_effects",
        "importing it touches no device and no random state, and prints nothing",
        "A plugin is imported before devices are dealt to processes; a number drawn at import shifts every number after.",
        "Do at call time what needs a device or a generator; no prints and no seeds at the top of a module.",
        _check_import_effects,
    ),
)
