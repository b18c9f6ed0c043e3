"""A JSON schema in a file of its own, as the option of the reward `json_schema`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plugrad import OptionError
from plugrad_compat.trl.dataset import special_file
from plugrad_environments.wording import cut, listed

NAME = "json_schema"


def with_schema(
    rewards: Sequence[str], options: Mapping[str, Mapping[str, Any]], file: Path | None
) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of rewards, with the schema that a file holds.

    Raises:
        OptionError: nothing uses the file, or it cannot be read or holds something else.
    """
    if file is None:
        return options
    if NAME not in rewards:
        raise OptionError(f"schema_file is for the reward 'json_schema', and this run has {listed(rewards)}.")
    given = options.get(NAME, {})
    if double := sorted({"schema", "column"} & set(given)):
        raise OptionError(f"schema_file and reward_kwargs.json_schema.{double[0]} are both set. Drop one.")
    return {**options, NAME: {**given, "schema": _read(file)}}


def _read(file: Path) -> dict[str, Any]:
    if special := special_file(file):
        raise OptionError(f"schema_file = {cut(str(file))} cannot be read: {special} is a pipe, socket or device.")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"schema_file = {cut(str(file))} cannot be read: {type(error).__name__}: {error}.") from error
    if not isinstance(found, dict):
        raise OptionError(f"schema_file = {cut(str(file))} holds {cut(found)}. A JSON schema is a table: {{...}}.")
    return found
