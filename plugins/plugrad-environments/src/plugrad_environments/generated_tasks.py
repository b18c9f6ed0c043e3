"""reasoning-gym's generators by name, with their options checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from plugrad import OptionError
from plugrad_environments.extras import needed
from plugrad_environments.wording import among, cut, listed, reason

SET_HERE = ("seed", "size")
MIXTURE = "composite"
NOT_STABLE = frozenset({"isomorphic_strings", "knight_swap", "polynomial_multiplication", "ransom_note", "word_ladder"})
"""Tasks that draw from Python sets of strings, whose order is another one in every process."""


def reasoning_gym() -> Any:
    """Import reasoning-gym."""
    return needed("reasoning_gym", extra="reasoning-gym", for_what="the environment 'reasoning_gym'")


def task_names() -> list[str]:
    """Return the names of all tasks."""
    reasoning_gym()
    from reasoning_gym.factory import DATASETS

    return sorted(name for name in DATASETS if name != MIXTURE)


def checked_config(task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a task as it takes them.

    Raises:
        OptionError: there is no such task or option, or the task refuses a value.
    """
    names = task_names()
    if task not in names:
        raise OptionError(f"reasoning-gym has no task {cut(task)}.{among(task, names)} It has {listed(names)}.")
    from reasoning_gym.factory import DATASETS

    kind = DATASETS[task][1]
    fields = [field.name for field in dataclasses.fields(kind) if field.init and field.name not in SET_HERE]
    for name in config:
        if name in SET_HERE:
            raise OptionError(f"the {name} of {task!r} is set beside its options: {name} under [environment.kwargs].")
        if name not in fields:
            raise OptionError(
                f"the task {task!r} has no option {cut(name)}.{among(name, fields)} It takes {listed(fields)}."
            )
    try:
        made = TypeAdapter(kind).validate_python(dict(config))
        # A few have nothing to validate.
        getattr(made, "validate", lambda: None)()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise OptionError(f"the task {task!r}: {place} = {cut(first['input'])} is wrong: {first['msg']}.") from error
    except Exception as error:
        raise OptionError(f"the task {task!r} refuses {cut(dict(config))}: {reason(error)}.") from error
    return {name: getattr(made, name) for name in config}


def generator(tasks: Mapping[str, float], configs: Mapping[str, Mapping[str, Any]], seed: int, size: int) -> Any:
    """Return reasoning-gym's dataset of one task, or its composite of several.

    Raises:
        OptionError: a task cannot be made with its options.
    """
    gym = reasoning_gym()
    try:
        if len(tasks) == 1:
            task = next(iter(tasks))
            return gym.create_dataset(task, seed=seed, size=size, **configs.get(task, {}))
        from reasoning_gym.composite import DatasetSpec

        parts = [DatasetSpec(name=task, weight=weight, config=dict(configs.get(task, {}))) for task, weight in tasks.items()]
        return gym.create_dataset(MIXTURE, seed=seed, size=size, datasets=parts)
    except Exception as error:
        raise OptionError(f"reasoning-gym refuses {listed(tasks)} with {cut(dict(configs))}: {reason(error)}.") from error
