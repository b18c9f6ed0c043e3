"""Say in one sentence which field of a plugin's inputs is wrong, where a type checker's message has twenty lines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from beartype import beartype
from beartype.door import is_bearable
from jaxtyping import jaxtyped
from torch import Tensor

from plugrad.errors import ContractError, WronglyMade, did_you_mean, with_article
from plugrad.shown import printable

Class = TypeVar("Class", bound=type)
MOST_CHARACTERS = 300
NAMES = {"Float": "float", "Int": "integer", "Bool": "bool", "Real": "real"}
"""Of a kind of tensor, by the name of its annotation."""


def checked_fields(cls: Class) -> Class:
    """Check the fields of a dataclass against their annotations, shapes included, whenever one is made.

    Raises:
        WronglyMade: in the constructor: a field is missing, unknown, or not what its annotation says.
    """
    return named_fields(jaxtyped(typechecker=beartype)(cls))


def named_fields(cls: Class) -> Class:
    """Say in one sentence which field of a dataclass is missing or unknown, whenever one is made.

    Raises:
        WronglyMade: in the constructor.
    """
    checked: Any = cls
    construct = checked.__init__

    @functools.wraps(construct)
    def __init__(self: Any, *given: Any, **named: Any) -> None:
        try:
            construct(self, *given, **named)
        except ContractError:
            raise
        except Exception as error:
            raise WronglyMade(_complaint(cls, given, named, error)) from error

    checked.__init__ = __init__
    result: Class = checked
    return result


def converted_field(name: str, convert: Callable[[Any], Any]) -> Callable[[Class], Class]:
    """Convert the value of one field before it is checked, whenever one of the class is made.

    Args:
        name: of a field that may be given by position, and is the first one.
        convert: takes any value at all, and raises ValueError for one that cannot be converted.
    """

    def decorate(cls: Class) -> Class:
        made: Any = cls
        construct = made.__init__

        @functools.wraps(construct)
        def __init__(self: Any, *given: Any, **named: Any) -> None:
            try:
                if given:
                    given = (convert(given[0]), *given[1:])
                if name in named:
                    named = {**named, name: convert(named[name])}
            except ValueError as error:
                raise WronglyMade(f"plugrad.{cls.__name__} was given {error}.") from error
            construct(self, *given, **named)

        made.__init__ = __init__
        return cls

    return decorate


def _complaint(cls: type, given: Sequence[Any], named: Mapping[str, Any], error: Exception) -> str:
    name = f"plugrad.{cls.__name__}"
    known = [field.name for field in fields(cls)]
    by_position = [field.name for field in fields(cls) if not field.kw_only]
    if given and not by_position:
        return f"{name} takes keywords alone, so that no two tensors are swapped: {cls.__name__}({known[0]}=..., ...)."
    if len(given) > len(by_position):
        return f"{name} was made with {len(given)} values without a name. It has {', '.join(known)}."
    named = {**dict(zip(by_position, given, strict=False)), **named}
    unknown = [key for key in named if key not in known]
    required = [field.name for field in fields(cls) if field.default is MISSING and field.default_factory is MISSING]
    missing = [key for key in required if key not in named]
    if unknown:
        near = did_you_mean(unknown[0], known)
        return f"{name} has no field {', '.join(map(printable, unknown))}.{near} It has {', '.join(known)}."
    if missing:
        return f"{name} was made without {', '.join(missing)}. It needs {', '.join(required)}."
    return _wrong_field(name, cls, named) or (
        f"{name} cannot be made: {type(error).__name__}: {printable(' '.join(str(error).split()), MOST_CHARACTERS)}"
    )


def _wrong_field(name: str, cls: type, values: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the first field that does not fit its annotation and the fields before it."""
    hints = get_type_hints(cls)
    sizes: dict[str, tuple[int, str]] = {}
    for field in fields(cls):
        if field.name not in values or values[field.name] is field.default:
            continue
        value, kinds = values[field.name], _arrays_of(hints[field.name])
        if not _fits(value, hints[field.name], kinds, sizes):
            nested = [_nested(part) for part in get_args(hints[field.name]) if get_origin(part) is list] if kinds else []
            wanted = " or ".join([*(_wanted(kind, sizes) for kind in kinds), *nested]) or _name_of(hints[field.name])
            return f"{name} was given {field.name} = {described(value)}. It takes {wanted}.{_remedy(value, kinds)}"
        for dim, size in zip(_dims(kinds[0]) if kinds else (), getattr(value, "shape", ()), strict=False):
            sizes.setdefault(dim, (int(size), field.name))
    return None


def _fits(value: Any, hint: Any, kinds: Sequence[Any], sizes: Mapping[str, tuple[int, str]]) -> bool:
    if not is_bearable(value, hint):
        return False
    if not isinstance(value, Tensor) or not kinds:
        return True
    known = [(size, sizes[dim][0]) for dim, size in zip(_dims(kinds[0]), value.shape, strict=False) if dim in sizes]
    return all(size == expected for size, expected in known)


def _arrays_of(hint: Any) -> list[Any]:
    """Return the jaxtyping annotations of tensors in a hint."""
    return [kind for kind in (get_args(hint) or (hint,)) if hasattr(kind, "dim_str")]


def _dims(kind: Any) -> list[str]:
    return str(kind.dim_str).split()


def _wanted(kind: Any, sizes: Mapping[str, tuple[int, str]]) -> str:
    dims = _dims(kind)
    shape = f"of shape [{', '.join(dims)}]" if dims else "with one element and no dimension"
    known = [f"{dim} is {sizes[dim][0]} as in {sizes[dim][1]}" for dim in dims if dim in sizes]
    sort = with_article(NAMES[kind.__name__.partition("[")[0]])
    return f"{sort} tensor {shape}" + (f", where {' and '.join(known)}" if known else "")


def _nested(hint: Any) -> str:
    """Return "a list of lists of float tensors of shape [completion]"."""
    depth, part = 0, hint
    while get_origin(part) is list:
        depth, (part,) = depth + 1, get_args(part)
    dims = ", ".join(dim.removeprefix("_") for dim in _dims(part))
    return f"a list of {'lists of ' * (depth - 1)}{NAMES[part.__name__.partition('[')[0]]} tensors of shape [{dims}]"


def _name_of(hint: Any) -> str:
    return with_article(hint.__name__) if isinstance(hint, type) else printable(hint)


def described(value: Any) -> str:
    """Return what a value is, for messages: "a tensor of float32 of shape [3]"."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} of shape {list(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of {value.dtype} of shape {list(value.shape)}"
    if isinstance(value, list | tuple):
        sort = type(value).__name__
        return f"a {sort} whose first entry is {described(value[0])}" if value else f"an empty {sort}"
    return "None" if value is None else with_article(type(value).__name__)


def _remedy(value: Any, kinds: Sequence[Any]) -> str:
    return (
        " Pass torch.as_tensor(...) of it." if kinds and isinstance(value, np.ndarray | list | tuple | int | float) else ""
    )
