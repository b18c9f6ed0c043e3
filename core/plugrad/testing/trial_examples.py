"""The examples behind the kit's rollouts: the columns that every example has, and those that an author adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_ADDED: ContextVar[Mapping[str, Any]] = ContextVar("columns of examples")


class MissingColumn(KeyError):
    """A component read a column that the trial's examples do not have."""

    def __init__(self, column: object, present: list[str]) -> None:
        super().__init__(column)
        value = '{"%s": 1}' % column  # noqa: UP031
        self.remedy = (
            f"The examples of this trial have the columns {', '.join(present)}. Add those of your data: plugrad check ... "
            f"--example '{value}' (in Python, example={value}). If a column can be missing, read example.get({column!r})."
        )
        """What to do."""

    def __str__(self) -> str:
        return f"the example has no column {self.args[0]!r}"


class TrialExample(dict[str, Any]):
    """An example of the trial. It says which columns it has if another one is read."""

    def __missing__(self, column: str) -> Any:
        raise MissingColumn(column, [str(name) for name in self])


def columns_of_the_author() -> Mapping[str, Any]:
    """Return the columns that the author of the component on trial added."""
    return _ADDED.get({})


def trial_example(**columns: Any) -> TrialExample:
    """Return an example with these columns, and those that the author of the component on trial added."""
    return TrialExample({**columns, **columns_of_the_author()})


@contextmanager
def columns_of_examples(added: Mapping[str, Any]) -> Iterator[None]:
    """Add these columns to the examples that are made in the body."""
    token = _ADDED.set(added)
    try:
        yield
    finally:
        _ADDED.reset(token)
