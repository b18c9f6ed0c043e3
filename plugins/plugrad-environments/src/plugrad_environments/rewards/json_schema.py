"""The reward `json_schema`: the completion is JSON of a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import DataError, OptionError, Rollout
from plugrad_environments.extras import needed
from plugrad_environments.wording import cut, listed

FENCE = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)```", flags=re.DOTALL)


@dataclass(frozen=True, config={"extra": "forbid"})
class JsonSchema:
    """1 if the completion, or its last fenced block, is JSON that its schema allows; `parses` if it is other JSON; else 0.

    Args:
        schema: the JSON schema, as a table.
        column: without `schema`, the column that holds the schema of each example, as JSON text or as a table.
        parses: what JSON is worth that the schema does not allow.
    """

    schema: dict[str, Any] | None = None
    column: str | None = None
    parses: float = Field(default=0.0, allow_inf_nan=False)

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check every schema."""
        if (self.schema is None) == (self.column is None):
            raise OptionError(
                "the reward 'json_schema' needs one of schema (a table) and column (the column with the schema)."
            )
        for example in examples if self.column else examples[:1]:
            if self.column is not None and self.column not in example:
                raise DataError(f"json_schema.column names the column {self.column!r}. There is {listed(example)}.")
            try:
                _validator(self._schema_of(example))
            except ValueError as error:
                which = f"of example {example.get('example_id')!r} " if self.column else ""
                raise DataError(f"the JSON schema {which}is none: {error}.") from error

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return the worth of each completion."""
        return [self._score(rollout["completion"], rollout["example"]) for rollout in rollouts]

    def _score(self, completion: str, example: Mapping[str, Any]) -> float:
        fenced = FENCE.findall(completion)
        try:
            value = json.loads(fenced[-1] if fenced else completion, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return 0.0
        try:
            return 1.0 if _validator(self._schema_of(example)).is_valid(value) else self.parses
        except RecursionError:
            return self.parses

    def _schema_of(self, example: Mapping[str, Any]) -> str:
        """Return the schema as text."""
        value = self.schema if self.column is None else example[self.column]
        if isinstance(value, str):
            return value
        # `datasets` fills in the keys of a table that other rows have.
        return json.dumps(value if self.column is None else _without_none(value), sort_keys=True)


@cache
def _validator(text: str) -> Any:
    jsonschema = needed("jsonschema", extra="json-schema", for_what="the reward 'json_schema'")
    schema = json.loads(text)
    if not isinstance(schema, dict | bool):
        raise ValueError(f"it is {cut(schema)}, not a table")
    known = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        known.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"{error.message} (at {'/'.join(map(str, error.path)) or 'its top'})") from error
    return known(schema)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
