"""The form of a bound option in the resolved run file. What is written there reads back as the same value, or is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from plugrad.errors import OptionError
from plugrad.registry.option_types import SETS, dumped
from plugrad.registry.options import Option, checked_option, is_checked, options_of
from plugrad.registry.resolve import Source
from plugrad.secret_texts import find_secret, shown_unless_secret

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
UNNAMED = "Annotate it with a type that TOML can hold: bool, int, float, str, Path, an Enum, a dataclass, a list or a dict"


class NoFormError(ValueError):
    """A value has no form in a run file from which the same value could be read."""


def forms_of(
    source: Source, target: Any, bound: Mapping[str, Any], given: Mapping[str, Any], folders: Sequence[Path]
) -> dict[str, Any]:
    """Return the options that the resolved run file names, as TOML holds them.

    A default that has no such form is left out, and so is None: a run file that does not name them means them.

    Raises:
        OptionError: a given value has no such form.
    """
    known = {option.name: option for option in options_of(source, target)}
    forms: dict[str, Any] = {}
    for name, value in bound.items():
        option = known.get(name, Option(name, Any, None))
        try:
            forms[name] = _form(value, option, lambda form, o=option: checked_option(source, o, form, folders))
        except NoFormError as error:
            if name in given and not same(value, option.default):
                raise OptionError(
                    f"[{source.kind}] {source.name!r} ({source.owner}): the option {name!r} is "
                    f"{shown_unless_secret(name, value)}, which a run "
                    f"file cannot repeat: {error}"
                ) from error
    return forms


def recorded(bound: Mapping[str, Any], forms: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as JSON holds them, for a record: defaults without a form as text that is the same in every run."""
    return {name: forms[name] if name in forms else _text(name, value) for name, value in bound.items() if value is not None}


def same(value: Any, other: Any) -> bool:
    """Return whether two values are equal, of the same type, and NaN where the other is NaN."""
    if isinstance(value, int | float) and isinstance(other, int | float):
        both_nan = isinstance(value, float) and isinstance(other, float) and math.isnan(value) and math.isnan(other)
        return isinstance(value, bool) == isinstance(other, bool) and (value == other or both_nan)
    if type(value) is not type(other):
        return False
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return all(same(getattr(value, name, None), getattr(other, name, None)) for name in names)
    return value is other or (value == other) is True


def _form(value: Any, option: Option, read: Callable[[Any], Any]) -> Any:
    if value is None:
        raise NoFormError("TOML has no null. Leave the option out, or let its author make None the default.")
    try:
        form = _without_none(dumped(option.annotation, value) if is_checked(option.annotation) else value)
        # Both: TOML has dates, which the record in JSON has not.
        form = json.loads(json.dumps(tomllib.loads(tomli_w.dumps({"value": form}).encode().decode())["value"]))
        again = read(form)
    except Exception as error:
        raise NoFormError(_remedy(value, option)) from error
    if not same(again, value):
        raise NoFormError(_remedy(value, option))
    if find_secret(option.name, form) is not None:
        raise NoFormError("it would be recorded. Let the component read it from an environment variable.")
    return form


def _without_none(form: Any) -> Any:
    """Leave out keys that are None: the fields of a dataclass whose default it is."""
    if isinstance(form, dict):
        return {key: _without_none(item) for key, item in form.items() if item is not None}
    return [_without_none(item) for item in form] if isinstance(form, list) else form


def _remedy(value: Any, option: Option) -> str:
    if callable(value):
        return "it is no text. Annotate it plugrad.CallableReference, and give `module:function` or `file.py:function`."
    if isinstance(value, range):
        return "Annotate it list[int], or tuple[int, int, int] for its start, stop and step."
    if _has_none(value):
        return "TOML has no null, in lists and tables neither. Leave the key out, or write another value for it."
    if not is_checked(option.annotation) and type(value) not in (bool, int, float, str, list, dict):
        return (
            f"it has no annotation, so what is written would be read as something else. Annotate it {type(value).__name__}."
        )
    return f"{UNNAMED} of these."


def _has_none(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return value is None or any(map(_has_none, parts))


def _text(name: str, value: Any) -> Any:
    parts = sorted(map(repr, value)) if isinstance(value, SETS) else value
    return ADDRESS.sub("", shown_unless_secret(name, parts))
