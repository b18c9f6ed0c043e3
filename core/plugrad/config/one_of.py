"""A key whose value is one of the names in a table, for tables that may grow after this package is imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


@dataclass(frozen=True)
class OneOf:
    """Annotate a string with it, as `Annotated[str, OneOf(names)]`. Its errors and JSON schema are those of a `Literal`."""

    names: Callable[[], Sequence[str]]
    """Called for every value, so a name that was added later is accepted."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the name after the type."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """List the names."""
        return {**handler(schema), "enum": list(self.names())}

    def _check(self, value: str) -> str:
        names = self.names()
        if value not in names:
            *others, last = [f"'{name}'" for name in names]
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        return value
