"""The base class of every table of a run file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from plugrad.config.secret_arguments import refuse_secret


class Table(BaseModel):
    """A table of the run file. Types are strict, and unknown keys are errors."""

    # TOML has inf and nan, so a written run file keeps them.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=True, ser_json_inf_nan="constants")

    secrets_belong: ClassVar[str] = "keep it out of the run file, for example in the environment"
    """What to do with a secret instead of writing it in this table."""

    @field_validator("*", mode="before")
    @classmethod
    def _hold_no_secret(cls, value: Any, info: ValidationInfo) -> Any:
        # Tables check their own keys, and name the place more exactly.
        if info.field_name and not _has_table(cls.model_fields[info.field_name].annotation):
            refuse_secret(info.field_name, value, cls.secrets_belong)
        return value

    def with_absolute_paths(self, folders: Sequence[Path]) -> Self:
        """Return the table with its paths absolute. A table without paths returns itself.

        Args:
            folders: where paths are looked up, in order.
        """
        return self


def _has_table(annotation: Any) -> bool:
    is_table = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return is_table or any(map(_has_table, get_args(annotation)))
