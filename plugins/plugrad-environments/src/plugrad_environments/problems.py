"""The problems of a run: generated one after another, in stages where a curriculum makes them harder."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugrad import DataError, OptionError
from plugrad_environments.generated_tasks import SET_HERE, generator
from plugrad_environments.wording import listed, reason


@dataclass(frozen=True)
class Problem:
    """A problem as reasoning-gym made it, with what its scorer needs."""

    task: str
    config: Mapping[str, Any]
    entry: dict[str, Any]
    level: int | None


@dataclass(frozen=True)
class Stage:
    """The tasks of a part of the run, by weight, and their options."""

    weights: Mapping[str, float]
    configs: Mapping[str, Mapping[str, Any]]
    level: int | None = None


def stages_of(weights: Mapping[str, float], configs: Mapping[str, Mapping[str, Any]], levels: Sequence[int]) -> list[Stage]:
    """Return a stage for each level of the tasks' curricula.

    Raises:
        OptionError: a task has none, the level is above all of its levels, or an option is the curriculum's.
    """
    return [Stage(weights, {task: _at(task, configs[task], level) for task in weights}, level) for level in levels]


def problems_of(stages: Sequence[Stage], seed: int, number: int) -> Iterator[Problem]:
    """Yield problems, every stage with its even share of them.

    Raises:
        DataError: one cannot be made.
    """
    for index, stage in enumerate(stages):
        first, end = (number * place // len(stages) for place in (index, index + 1))
        if first == end:
            continue
        made = generator(stage.weights, stage.configs, seed + first, end - first)
        for place in range(end - first):
            try:
                entry = made[place]
            except Exception as error:
                raise DataError(
                    f"reasoning-gym cannot make problem {first + place} of {listed(stage.weights)}: {reason(error)}."
                ) from error
            task = entry["metadata"].get("source_dataset", next(iter(stage.weights)))
            task = task if task in stage.weights else next(iter(stage.weights))
            yield Problem(task, stage.configs[task], entry, stage.level)


def _at(task: str, config: Mapping[str, Any], level: int) -> dict[str, Any]:
    """Return the options of a task at a level of its curriculum."""
    from reasoning_gym.factory import CURRICULA

    if task not in CURRICULA:
        raise OptionError(f"levels = ... asks for the curriculum of the task {task!r}, and reasoning-gym has none for it.")
    curriculum = CURRICULA[task]()
    highest = max(len(attribute.levels) for attribute in curriculum.attributes.values()) - 1
    if not 0 <= level <= highest:
        raise OptionError(f"the task {task!r} has no level {level}: its levels are 0 to {highest}.")
    curriculum.set_global_level(level)
    try:
        made = curriculum.generate_configuration()
    except Exception as error:
        raise OptionError(f"reasoning-gym's curriculum of {task!r} fails at level {level}: {reason(error)}.") from error
    fields = {name for each in curriculum.attributes.values() for name in _fields(each)}
    if twice := sorted(fields & set(config)):
        raise OptionError(f"the option {twice[0]!r} of the task {task!r} is set by its level. Drop it, or levels.")
    of_level = {
        each.name: getattr(made, each.name) for each in dataclasses.fields(made) if each.name in fields - set(SET_HERE)
    }
    return {**config, **of_level}


def _fields(attribute: Any) -> list[str]:
    names = ("lower_field_name", "upper_field_name", "field_name")
    return [name for name in (getattr(attribute, each, None) for each in names) if name]
