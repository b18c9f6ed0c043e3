"""The reward `json_schema`: the completion is JSON of a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from plugrad import DataError, OptionError, PluginError, Rollout
from plugrad_environments.extras import needed
from plugrad_environments.rewards.patterns import TEXTS, within_time
from plugrad_environments.side.text_worker import ALLOWED, NO_JSON, OTHER_JSON
from plugrad_environments.wording import cut, listed

FENCE = re.compile(r"```(?:json)?[^\S\n]*\n(.*?)```", flags=re.DOTALL)


@dataclass(frozen=True, config={"extra": "forbid"})
class JsonSchema:
    """1 if the completion, or its last fenced block, is JSON that its schema allows; `parses` if it is other JSON; else 0.

    A schema may refer to parts of itself. Nothing is fetched.

    Args:
        schema: the JSON schema, as a table. `schema_file` beside `reward_kwargs` names a file instead.
        column: without `schema`, the column that holds the schema of each example, as JSON text or as a table.
        parses: what JSON is worth that the schema does not allow.
        timeout_s: the limit of seconds for one completion. One that takes longer is worth 0.
    """

    schema: dict[str, Any] | None = None
    column: str | None = None
    parses: float = Field(default=0.0, allow_inf_nan=False)
    timeout_s: float = Field(default=5.0, gt=0, le=600)

    def check(self, examples: Sequence[Mapping[str, Any]]) -> None:
        """Check every schema."""
        if (self.schema is None) == (self.column is None):
            raise OptionError(
                "the reward 'json_schema' needs one of schema (a table), schema_file (beside reward_kwargs) and column (the "
                "column with the schema)."
            )
        for example in examples if self.column else examples[:1]:
            if self.column is not None and self.column not in example:
                raise DataError(f"json_schema.column names the column {self.column!r}. There is {listed(example)}.")
            try:
                check_schema(self._schema_of(example))
            except PluginError:
                raise
            except ValueError as error:
                which = f"of example {example.get('example_id')!r} " if self.column else ""
                raise DataError(f"the JSON schema {which}is none: {error}.") from error

    def scores(self, rollouts: Sequence[Rollout]) -> list[float]:
        """Return the worth of each completion. `json_schema_timeouts` is reported with it."""
        return [within_time("json_schema", rollout, self._score) for rollout in rollouts]

    def _score(self, rollout: Rollout) -> float:
        completion = rollout["completion"]
        fenced = FENCE.findall(completion)
        text, schema = fenced[-1] if fenced else completion, self._schema_of(rollout["example"])
        found = TEXTS.ask(("json", schema, text), self.timeout_s)
        worth = {ALLOWED: 1.0, OTHER_JSON: self.parses, NO_JSON: 0.0}
        if found not in worth:
            raise DataError(
                f"the JSON schema of example {rollout['example'].get('example_id')!r} cannot be used: {found}. It may refer "
                "to parts of itself alone."
            )
        return worth[found]

    def _schema_of(self, example: Mapping[str, Any]) -> str:
        """Return the schema as text."""
        value = self.schema if self.column is None else example[self.column]
        if isinstance(value, str):
            return value
        # `datasets` fills in the keys of a table that other rows have.
        return json.dumps(value if self.column is None else _without_none(value), sort_keys=True)


@cache
def check_schema(text: str) -> None:
    """Check a schema, and that it refers to nothing outside of it.

    Raises:
        ValueError: it is none, or does.
        PluginError: the package `jsonschema` is not installed.
    """
    jsonschema = needed("jsonschema", extra="json-schema", for_what="the reward 'json_schema'")
    schema = json.loads(text)
    if not isinstance(schema, dict | bool):
        raise ValueError(f"it is {cut(schema)}, not a table")
    known = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        known.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"{error.message} (at {'/'.join(map(str, error.path)) or 'its top'})") from error
    if isinstance(schema, dict):
        _check_references(schema)


def _check_references(schema: Mapping[str, Any]) -> None:
    """Find out before the run whether a schema lacks what it refers to."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for part in _tables(schema):
        reference = part.get("$ref")
        if not isinstance(reference, str):
            continue
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise ValueError(f"it refers to {cut(reference)}, which is no part of it; nothing is fetched") from error


def _tables(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every table in a schema, down to those with an `$id`, whose references are relative to it."""
    if isinstance(value, Mapping):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        if not (isinstance(item, Mapping) and "$id" in item):
            yield from _tables(item)


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
