"""What the types of options mean in a run file: how pydantic reads and writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from pydantic import (
    ConfigDict,
    GetCoreSchemaHandler,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    WrapSerializer,
)
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypedDict, is_typeddict

SETS = (set, frozenset)


def validated(annotation: Any, value: Any) -> Any:
    """Return a value as its annotation has it. TOML's and JSON's forms are accepted, and so are Python's own objects.

    Raises:
        ValidationError: it is of another type.
        ValueError: it has keys that its type does not know.
    """
    adapter = _adapter(annotation)
    try:
        # JSON's strict mode: a TOML list may become a tuple and a string a Path, but "0.1" is not a number.
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return adapter.validate_python(value, strict=True)
    try:
        found = adapter.validate_json(text, strict=True)
    except ValidationError as error:
        if any(detail["type"] == "needs_python_object" for detail in error.errors()):
            # Nothing in JSON is such an object. Now the error says which.
            return adapter.validate_python(value, strict=True)
        raise
    _refuse_dropped_keys(value, adapter, found)
    return found


def dumped(annotation: Any, value: Any) -> Any:
    """Return the form of a value in JSON: an enum's value, a dataclass as a table, a dtype as "float32".

    Raises:
        Exception: it has none. Types may write themselves, so any exception can come.
    """
    return _adapter(annotation).dump_python(value, mode="json", warnings=False)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return _hashed_adapter(annotation)
    except TypeError:
        return _new_adapter(annotation)


def _new_adapter(annotation: Any) -> TypeAdapter[Any]:
    known = _understood(annotation)
    try:
        return TypeAdapter(known)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        try:
            return TypeAdapter(known, config=ConfigDict(arbitrary_types_allowed=True))
        except PydanticUserError:
            # The second says that the type takes no such setting; only the first is about the type.
            raise ValueError(f"its type cannot be checked: {error.message}") from error


_hashed_adapter: Callable[[Any], TypeAdapter[Any]] = cache(_new_adapter)


def _understood(annotation: Any) -> Any:
    """Return an annotation with the types that pydantic does not read, or does not write the same way twice, explained."""
    if getattr(annotation, "__module__", "") == "torch" and getattr(annotation, "__name__", "") == "dtype":
        return Annotated[annotation, _Dtype()]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(_understood(args[0]), *args[1:])]
    if is_typeddict(annotation):
        return _with_fields(annotation)
    inner = tuple(map(_understood, args))
    if origin in (Union, UnionType):
        return Union[inner]  # noqa: UP007 - a tuple of unknown length
    if origin in SETS or annotation in SETS:
        return Annotated[origin[inner] if origin else annotation, WrapSerializer(_in_order)]
    # Pydantic makes of an iterable an iterator that ends after one use.
    known = list if origin is Iterable else origin
    return known[inner] if known in (list, tuple, dict) else annotation


def _with_fields(annotation: Any) -> Any:
    """Return a TypedDict as one that pydantic reads: before Python 3.12 it takes only those of typing_extensions."""
    hints = get_type_hints(annotation)
    keys = {name: Required if name in annotation.__required_keys__ else NotRequired for name in hints}
    return TypedDict(annotation.__name__, {name: keys[name][_understood(hint)] for name, hint in hints.items()})  # type: ignore


def _in_order(value: Any, write: Callable[[Any], Any]) -> Any:
    # A set of strings has another order in every process.
    return sorted(write(value), key=repr)


class _Dtype:
    """PyTorch's dtypes, by their names. PyTorch is not imported: whoever annotates an option with a dtype has done so."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read a name, write a name."""

        def read(value: Any) -> Any:
            named = getattr(sys.modules["torch"], value.removeprefix("torch."), None) if isinstance(value, str) else value
            if not isinstance(named, source):
                raise ValueError('write the name of a dtype, such as "float32"')
            return named

        write = core_schema.plain_serializer_function_ser_schema(lambda value: str(value).removeprefix("torch."))
        return core_schema.no_info_plain_validator_function(read, serialization=write)


def _refuse_dropped_keys(given: Any, adapter: TypeAdapter[Any], found: Any) -> None:
    """Refuse keys that are not in what was made of them: a dataclass ignores those that it does not know."""
    if not isinstance(given, Mapping | list | tuple):
        return
    try:
        forms = [adapter.dump_python(found, mode="json", warnings=False, by_alias=by_alias) for by_alias in (False, True)]
    except Exception:
        return
    for key, known in _dropped_keys(given, *forms):
        raise ValueError(f"there is no key {key}. Its keys: {', '.join(known)}")


def _dropped_keys(given: Any, form: Any, aliased: Any, path: str = "") -> list[tuple[str, list[str]]]:
    if isinstance(given, Mapping) and isinstance(form, dict) and isinstance(aliased, dict):
        unknown = [str(key) for key in given if str(key) not in form and str(key) not in aliased]
        if unknown:
            return [(repr(f"{path}{unknown[0]}"), list(aliased))]
        either = {**aliased, **form}, {**form, **aliased}
        inner = [(key, *(which[str(key)] for which in either)) for key in given]
        return [found for key, one, other in inner for found in _dropped_keys(given[key], one, other, f"{path}{key}.")]
    if isinstance(given, list | tuple) and isinstance(form, list) and len(given) == len(form) == len(aliased):
        parts = enumerate(zip(given, form, aliased, strict=True))
        return [found for index, part in parts for found in _dropped_keys(part[0], part[1], part[2], f"{path}{index}.")]
    return []
