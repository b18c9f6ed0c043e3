"""The tables that name a component: `[environment]`, `[loss]`, `[advantage]`, `[[metric]]`, `[[extension]]`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from plugrad.config.tables.number_types import Finite
from plugrad.config.tables.own_optimizer_table import OwnOptimizerTable
from plugrad.config.tables.table import Table
from plugrad.contracts.markers import Reduction
from plugrad.contracts.where import ColumnValue
from plugrad.shown import shown


class ComponentTable(Table):
    """The name of a component and its options."""

    secrets_belong: ClassVar[str] = (
        "let the component read it from an environment variable, and give it the variable's name "
        '(api_key_env = "MY_API_KEY" instead of api_key = "...")'
    )

    name: str = Field(description="`name`, `package/name`, `module:function` or `file.py:function`.")
    kwargs: dict[str, Any] = Field(default={}, description="Options of the component, checked against its signature.")


class EnvironmentTable(ComponentTable):
    """`[environment]`: the source of examples and rewards."""


class ExtensionTable(ComponentTable):
    """`[[extension]]`: wraps hooks. The first one listed changes the inputs first."""


class MetricTable(ComponentTable):
    """`[[metric]]`: a metric with options."""


class AdvantageTable(ComponentTable):
    """`[advantage]`: turns rewards into advantages."""


class LossTable(ComponentTable):
    """`[loss]`, or several `[[loss]]`: the objective is their weighted sum."""

    name: str = Field(
        default="importance_sampling", description="`name`, `package/name`, `module:function` or `file.py:function`."
    )
    weight: Finite = Field(default=1.0, description="Factor of this loss in the objective.")
    reduction: Reduction | None = Field(
        default=None, description="How token losses are averaged. Default: as the loss declares."
    )
    where: dict[str, ColumnValue | Annotated[list[ColumnValue], Field(min_length=1)]] = Field(
        default={},
        description="The examples that this loss counts and is averaged over, by the values of their columns, such as "
        '`{ task = "math" }`. A list means any of its values. Default: all.',
    )
    optimizer: OwnOptimizerTable | None = Field(
        default=None, description="For a loss with parameters of its own: how they are updated."
    )

    @field_validator("where", mode="before")
    @classmethod
    def _values(cls, where: Any) -> Any:
        for column, values in where.items() if isinstance(where, dict) else ():
            listed = values if isinstance(values, list) else [values]
            if not listed or not all(isinstance(value, ColumnValue) for value in listed):
                raise ValueError(
                    f"the column {shown(column)} is compared with {shown(values)}. Write a value or a list of values, each "
                    "text, a number, true or false"
                )
        return where
