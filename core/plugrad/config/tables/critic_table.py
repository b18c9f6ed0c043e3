"""`[critic]`: the model of the values of states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from plugrad.config.tables.number_types import Positive
from plugrad.config.tables.table import Table
from plugrad.paths import absolute_folder


class CriticTable(Table):
    """`[critic]`: estimates the value of each state, for advantages and losses that need it. It may be empty."""

    name: str | None = Field(
        default=None,
        description="A hub id or a local folder: a model of its own for the value head. Default: the policy's layers.",
    )
    lr: Positive | None = Field(
        default=None, description="Peak learning rate of the critic's own parameters. Default: `optimizer.lr`."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float64"] | None = Field(
        default=None, description="Data type of the weights of its own model. Default: the policy's."
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run the Python code in the model's folder, for a model that Transformers does not know. Read it first.",
    )

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with an absolute `name` if it names a folder. A hub id stays."""
        return self.model_copy(update={"name": self.name and absolute_folder(self.name, folders)})
