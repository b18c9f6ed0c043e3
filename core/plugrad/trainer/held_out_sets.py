"""The held-out examples of a run: of its environment, and of those of its sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from plugrad.config.run_file import RunFile
from plugrad.config.tables.evaluation_table import PREFIX
from plugrad.contracts.environment import Example
from plugrad.contracts.where import Where
from plugrad.errors import DataError, RunFileError
from plugrad.host.environment import BoundEnvironment, of_set
from plugrad.shown import printable, shown


@dataclass(frozen=True)
class HeldOut:
    """The held-out examples of one environment, and the sets of them that are reported."""

    environment: BoundEnvironment
    examples: Sequence[Example]
    sets: Mapping[str, Sequence[int]]
    """The places of the examples of each set, by what the names of its numbers begin with."""


def held_out_of(
    run_file: RunFile,
    environment: BoundEnvironment,
    of_sets: Mapping[str, BoundEnvironment],
    left_out: Collection[int] = (),
) -> list[HeldOut]:
    """Return the held-out examples of a run, by environment.

    Args:
        run_file: says what is reported of them.
        environment: of the run.
        of_sets: the environments of sets, by the name of the set.
        left_out: the `id` of examples that cannot be used.

    Raises:
        DataError: a set has no example, or the run reports of its environment's and there are none.
    """
    if not run_file.evaluation.every_steps:
        return []
    parts = []
    own = _usable(environment.eval_examples(), left_out)
    if own or not of_sets:
        parts.append(_of_run(run_file, environment, own))
    else:
        _check_nobody_asks(run_file, environment)
    for name, bound in of_sets.items():
        examples = _usable(examples_of_set(name, bound), left_out)
        parts.append(HeldOut(bound, examples, {f"{PREFIX}/{name}": _places(run_file, name, examples)}))
    return parts


def examples_of_set(name: str, environment: BoundEnvironment) -> list[Example]:
    """Return the held-out examples of a set's own environment; where it holds none out, all: nothing trains on them.

    Raises:
        DataError: it has none.
    """
    with of_set(name):
        return environment.eval_examples() or environment.train_examples()


def every_held_out(environment: BoundEnvironment, of_sets: Mapping[str, BoundEnvironment]) -> list[Example]:
    """Return all that may be completed in an evaluation."""
    return [*environment.eval_examples(), *(e for name, bound in of_sets.items() for e in examples_of_set(name, bound))]


def _of_run(run_file: RunFile, environment: BoundEnvironment, examples: Sequence[Example]) -> HeldOut:
    table = run_file.evaluation
    if not examples:
        raise DataError(
            f"{environment.component} has no held-out examples: set evaluation.every_steps = 0, or give it some."
        )
    named = {name for name, each in table.sets.items() if each.environment is None}
    sets = {f"{PREFIX}/{name}": _places(run_file, name, examples) for name in table.sets if name in named}
    return HeldOut(environment, examples, {PREFIX: range(min(table.num_examples, len(examples))), **sets})


def _places(run_file: RunFile, name: str, examples: Sequence[Example]) -> list[int]:
    """Return the places of the examples of a set.

    Raises:
        DataError: it has no example.
    """
    table = run_file.evaluation
    where = Where.of(table.sets[name].where)
    places = [place for place, example in enumerate(examples) if where.holds(example)]
    if not places and not examples:
        raise DataError(f"no example of evaluation.sets.{name} fits: all its prompts are too long, and left out.")
    if not places:
        columns = printable(", ".join(dict.fromkeys(column for example in examples for column in example)))
        raise DataError(
            f"none of the {len(examples)} held-out examples meets the where of evaluation.sets.{name}, "
            f"{printable(str(where))}. Their columns are {columns}. A string is not a number, and true is not 1."
        )
    return places[: table.sets[name].num_examples or table.num_examples]


def _check_nobody_asks(run_file: RunFile, environment: BoundEnvironment) -> None:
    """Check that nothing waits for numbers of the run's own held-out examples, of which there are none."""
    table, best = run_file.evaluation, run_file.checkpoint.keep_best
    alone = [name for name, each in table.sets.items() if each.environment is None]
    asks = [f"evaluation.sets.{alone[0]} has no environment of its own"] if alone else []
    if table.stop_at_reward is not None:
        asks.append(f"evaluation.stop_at_reward waits for {PREFIX}/reward")
    if best and best.startswith(f"{PREFIX}/") and best.split("/")[1] not in table.sets:
        asks.append(f"checkpoint.keep_best = {shown(best)} is a number of them")
    if asks:
        raise RunFileError(
            f"{environment.component} has no held-out examples, and {' and '.join(asks)}. Give it some, or use the "
            f"numbers of a set with an environment of its own, {PREFIX}/NAME/."
        )


def _usable(examples: Sequence[Example], left_out: Collection[int]) -> list[Example]:
    return [example for example in examples if id(example) not in left_out]
