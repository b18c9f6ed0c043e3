"""Check that the `where` of every loss chooses examples that there are."""

from __future__ import annotations

from collections.abc import Sequence

from plugrad.contracts.environment import Example
from plugrad.contracts.where import Where
from plugrad.errors import RunFileError, did_you_mean
from plugrad.host.environment import BoundEnvironment
from plugrad.host.loss import BoundLoss
from plugrad.shown import printable, shown

NUM_SHOWN = 5
"""The number of values of a column that a message lists."""


def check_chosen_examples(losses: Sequence[BoundLoss], environment: BoundEnvironment) -> None:
    """Check every `where` against the examples to train on.

    Raises:
        RunFileError: it names a column that no example has, or no example meets it.
    """
    for loss in losses:
        if loss.where is not None:
            _check(f"the where of {loss.component}", loss.where, environment)


def _check(owner: str, where: Where, environment: BoundEnvironment) -> None:
    examples = environment.train_examples()
    columns = list(dict.fromkeys(column for example in examples for column in example))
    for column in where:
        if column not in columns:
            raise RunFileError(
                f"{owner} names the column {shown(column)}, which no example of {environment.component} has."
                f"{did_you_mean(column, columns)} The columns are {printable(', '.join(columns))}."
            )
    if not any(map(where.holds, examples)):
        found = "; ".join(f"{printable(column)} is {_values(examples, column)}" for column in where)
        raise RunFileError(
            f"{owner} is {printable(str(where))}, and none of the {len(examples)} examples of {environment.component} meets "
            f"it: {found}. The loss would never count. A string is not a number, and true is not 1."
        )


def _values(examples: Sequence[Example], column: str) -> str:
    values = list(dict.fromkeys(shown(example[column]) for example in examples if column in example))
    more = f" and {len(values) - NUM_SHOWN} other values" if len(values) > NUM_SHOWN else ""
    return ", ".join(values[:NUM_SHOWN]) + more
