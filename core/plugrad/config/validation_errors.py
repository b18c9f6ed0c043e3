"""Turn validation errors into messages that name the run file's keys and suggest fixes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from plugrad.config.foreign_keys import place_of
from plugrad.config.secret_arguments import SECRET
from plugrad.errors import RunFileError, did_you_mean
from plugrad.shown import LIMIT, printable, shown

TABLE = re.compile(r"valid dictionary( or (object|instance of \w+))*")
"""A table, as pydantic names it."""
MOST_COMPLAINTS = 20
"""How many wrong keys a message lists."""


def unusable(model: type[BaseModel], error: ValidationError, tables: Mapping[str, Any], origin: str) -> RunFileError:
    """Return an error that lists every wrong key of `tables`."""
    complaints = dict.fromkeys(_complaint(model, detail, tables) for detail in error.errors())
    listed = list(complaints)[:MOST_COMPLAINTS]
    more = [f"and {len(complaints) - MOST_COMPLAINTS:,} more."] if len(complaints) > MOST_COMPLAINTS else []
    return RunFileError("\n    ".join([f"{origin} cannot be used:", *listed, *more]))


def _complaint(model: type[BaseModel], detail: Any, tables: Mapping[str, Any]) -> str:
    where = _place(detail["loc"], tables)
    if detail["type"] == "extra_forbidden":
        keys = _keys_of(model, where[:-1])
        table = f"[{'.'.join(where[:-1])}]" if where[:-1] else "a run file"
        hint = _hint(where, detail["input"], keys)
        return f"{table} has no key {shown(where[-1])}.{hint}"
    if detail["type"] == "missing":
        return f"{'.'.join(where)} is missing: {_meaning(model, where)}"
    message = printable(TABLE.sub("table", detail["msg"].removeprefix("Value error, ")), 2 * LIMIT)
    is_hidden = detail["type"] == SECRET or isinstance(detail["input"], dict)
    found = "" if is_hidden else f" It is {shown(detail['input'])}."
    hint = did_you_mean(str(detail["input"]), re.findall("'([^']+)'", message)) if detail["type"] == "literal_error" else ""
    return f"{printable('.'.join(where)) or 'the run file'}: {message}.{found}{hint}"


def _hint(where: Sequence[str], value: Any, keys: Sequence[str]) -> str:
    """Return where an unknown key belongs: another system's has a place here, and a component's option is below `kwargs`."""
    if hint := place_of(where, value) or did_you_mean(where[-1], keys):
        return hint
    listed = f" Its keys: {', '.join(keys)}." if keys else ""
    if "kwargs" in keys:
        table = ".".join(part for part in where[:-1] if not part.isdigit())
        whose = "PEFT" if table == "model.lora" else f"the {where[0]}"
        return f"{listed} An option of {whose} belongs under [{table}.kwargs]: {printable(where[-1])} = ..."
    return listed


def _place(loc: Sequence[str | int], tables: Mapping[str, Any]) -> list[str]:
    """Return the key of an error as a user writes it. A single [[loss]] has no number."""
    where: list[str] = []
    asked: Any = dict(tables)
    for part in loc:
        is_alone = isinstance(asked, dict) or (isinstance(asked, list) and len(asked) == 1 and isinstance(asked[0], dict))
        if part != 0 or not is_alone:
            where.append(str(part))
        asked = _below(asked, part)
    return where


def _below(asked: Any, part: str | int) -> Any:
    if isinstance(asked, list):
        return asked[part] if isinstance(part, int) and part < len(asked) else None
    # A single table in place of a list of tables.
    return asked if part == 0 else asked.get(str(part)) if isinstance(asked, Mapping) else None


def _keys_of(model: type[BaseModel], where: Sequence[str]) -> list[str]:
    inner = _inner(model, where)
    return list(inner.model_fields) if inner else []


def _inner(model: type[BaseModel], where: Sequence[str]) -> type[BaseModel] | None:
    for part in where:
        if part.isdigit():
            continue
        field = model.model_fields.get(part)
        tables = _tables_in(field.annotation) if field else []
        if not tables:
            return None
        model = tables[0]
    return model


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in _tables_in(part)]


def _meaning(model: type[BaseModel], where: Sequence[str]) -> str:
    inner = _inner(model, where)
    if inner:
        return (inner.__doc__ or "").split("\n")[0]
    owner = _inner(model, where[:-1])
    return (owner.model_fields[where[-1]].description or "") if owner else ""
