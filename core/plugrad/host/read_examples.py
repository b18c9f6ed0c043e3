"""Check what losses read of examples, for every example before a model loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plugrad.contracts.environment import Example
from plugrad.errors import DataError, did_you_mean
from plugrad.host.loss import BoundLoss
from plugrad.registry.blame import Blamed, told
from plugrad.shown import printable, shown


def check_read_examples(losses: Sequence[BoundLoss], examples: Sequence[Example]) -> None:
    """Let every loss that declares `check_example` check the examples that it counts.

    Raises:
        DataError: a loss cannot use one.
    """
    for loss in losses:
        for example in examples if loss.facts.check_example else ():
            if loss.where is None or loss.where.holds(example):
                _check(loss, example)


def _check(loss: BoundLoss, example: Example) -> None:
    check, owner = loss.facts.check_example, f"{loss.component} cannot use {_named(example)}"
    assert check is not None
    try:
        with Blamed(str(loss.component), lambda error: DataError(_said(error, example))):
            check(example, loss.component.options)
    except DataError as error:
        raise DataError(f"{owner}: {error}") from error


def _said(error: BaseException, example: Mapping[str, object]) -> str:
    column = error.args[0] if type(error) is KeyError and error.args else None
    if column is None or column in example:
        return told(error)
    columns = [str(name) for name in example]
    return f"it has no column {shown(column)}.{did_you_mean(str(column), columns)} It has {printable(', '.join(columns))}."


def _named(example: Example) -> str:
    return f"example {shown(example.get('example_id'))}"
