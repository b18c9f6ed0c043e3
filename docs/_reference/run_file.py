"""The run file: every table and key with its type, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from _reference.docstrings import one_line
from _reference.markdown import NOTHING, as_toml, in_words, table
from plugrad import RunFile

COLUMNS = ("key", "type", "default", "meaning")


def tables() -> str:
    """Return a heading and a table of keys for every table of the run file."""
    parts = []
    for title, model in tables_of(RunFile):
        about = one_line((model.__doc__ or "").partition(": ")[2]) if title else "Written before the first table."
        rows = [_row(name, field) for name, field in model.model_fields.items() if not _table_in(field.annotation)]
        heading = f"`{title}`" if title else "Top level"
        parts += [f"### {heading}", about, table(COLUMNS, rows)]
    return "\n\n".join(parts)


def tables_of(model: type[BaseModel], title: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every table of the run file with its heading, such as `[model.reference]`."""
    yield title, model
    for name, field in model.model_fields.items():
        inner = _table_in(field.annotation)
        if inner:
            yield from tables_of(inner, _title(title, name, field))


def _title(outer: str, name: str, field: FieldInfo) -> str:
    repeats = get_origin(field.annotation) is list and name != "loss"
    path = f"{outer.strip('[]')}.{name}" if outer else name
    if get_origin(field.annotation) is dict:
        path += ".NAME"
    return f"[[{path}]]" if repeats else f"[{path}]"


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_in(part))), None)


def _row(name: str, field: FieldInfo) -> tuple[str, ...]:
    if not field.description:
        raise ValueError(f"the run file's key {name!r} has no description.")
    default = "required" if field.is_required() else _default(field)
    return f"`{name}`", in_words(field.annotation, field.metadata), default, field.description


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return NOTHING if value in ({}, []) else as_toml(value)
