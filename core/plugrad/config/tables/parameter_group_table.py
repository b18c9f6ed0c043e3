"""`[[optimizer.groups]]`: parameters with rates of their own, by their names."""

from __future__ import annotations

import re
from fnmatch import translate

from pydantic import Field, field_validator, model_validator

from plugrad.config.tables.number_types import Positive, PositiveOrZero
from plugrad.config.tables.table import Table
from plugrad.shown import shown

REGEX = "re:"
"""What a regular expression begins with."""


class ParameterGroupTable(Table):
    """`[[optimizer.groups]]`: parameters of the policy with rates of their own. The first group that matches one has it."""

    match: str = Field(
        min_length=1,
        description='The parameters, by their Transformers names: a pattern for the whole name, such as `"*.mlp.*"`, or '
        '`re:` and a regular expression that is found anywhere in it, such as `"re:layers\\.[01]\\."`.',
    )
    lr: Positive | None = Field(default=None, description="Their peak learning rate. Default: `optimizer.lr`.")
    weight_decay: PositiveOrZero | None = Field(
        default=None, description="Their weight decay, whatever `no_decay` says. Default: as for all others."
    )

    @field_validator("match")
    @classmethod
    def _is_pattern(cls, match: str) -> str:
        try:
            _compiled(match)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{shown(match)} is no regular expression ({error})") from error
        return match

    @model_validator(mode="after")
    def _sets_something(self) -> ParameterGroupTable:
        if self.lr is None and self.weight_decay is None:
            raise ValueError("it sets neither lr nor weight_decay, so it would change nothing")
        return self

    @property
    def pattern(self) -> re.Pattern[str]:
        """The pattern, to be searched for in a name."""
        return _compiled(self.match)


def _compiled(match: str) -> re.Pattern[str]:
    return re.compile(match.removeprefix(REGEX) if match.startswith(REGEX) else rf"\A{translate(match)}")
