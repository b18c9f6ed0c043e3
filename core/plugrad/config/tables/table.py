"""The base class of every table of a run file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table of the run file. Types are strict, and unknown keys are errors."""

    # TOML has inf and nan, so a written run file keeps them.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=True, ser_json_inf_nan="constants")

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with its paths absolute. A table without paths returns itself.

        Args:
            folders: where paths are looked up, in order.
        """
        return self
