"""Check the options that a run file gives a component against the component's signature."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError

from plugrad.contracts.markers import CallableReference
from plugrad.errors import OptionError, PluginError, did_you_mean
from plugrad.paths import find_file
from plugrad.registry.option_types import validated
from plugrad.registry.resolve import Source, absolute_reference
from plugrad.registry.signature import hints_of, is_constructed, parameters_of
from plugrad.secret_texts import shown_unless_secret
from plugrad.shown import LIMIT, printable, shown

logger = logging.getLogger("plugrad")

OF_LIMITS = frozenset(
    {
        "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number", "too_short",
        "too_long", "string_too_short", "string_too_long", "string_pattern_mismatch",
    }
)  # fmt: skip
"""Pydantic's errors about values of the right type."""
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """One keyword argument of a component."""

    name: str
    annotation: Any
    default: Any
    """`REQUIRED` where there is none."""

    def __str__(self) -> str:
        if self.default is not REQUIRED:
            return f"{self.name}={shown_unless_secret(self.name, self.default)}"
        return f"{self.name} (required, {type_name(self.annotation)})"


def options_of(source: Source, target: Any) -> list[Option]:
    """Return the options that `target` names, in order.

    Raises:
        PluginError: the signature is not one that a plugin can have.
    """
    parameters = parameters_of(source, target)
    hints = hints_of(target)
    return [
        Option(p.name, hints.get(p.name, p.annotation), p.default)
        for p in parameters[0 if is_constructed(source, target) else 1 :]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def check_options(
    source: Source, target: Callable[..., Any], given: Mapping[str, Any], folders: Sequence[Path] = ()
) -> dict[str, Any]:
    """Check the `given` options and return the value of every option, defaults included.

    Options annotated `Path` or `CallableReference` are looked up in `folders` and become absolute.

    Raises:
        OptionError: an option is unknown, missing, or of the wrong type.
        PluginError: the signature is not one that a plugin can have.
    """
    known = {option.name: option for option in options_of(source, target)}
    table = _table(source)
    if not _takes_any_option(source, target):
        _refuse_unknown(table, given, known)
    _refuse_missing(table, source.options_in, given, known)
    defaults = {name: option.default for name, option in known.items() if name not in given}
    checked = {
        name: checked_option(source, known[name], value, folders) if name in known else value
        for name, value in given.items()
    }
    return defaults | checked


def type_name(annotation: Any) -> str:
    """Return an annotation as an author wrote it."""
    if annotation is REQUIRED:
        return "any"
    if annotation == CallableReference:
        return "module:function or file.py:function"
    if get_origin(annotation) is Annotated:
        return type_name(get_args(annotation)[0])
    if annotation == list[CallableReference]:
        return f"list of {type_name(CallableReference)}"
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(type_name(part) for part in get_args(annotation)).replace("NoneType", "None")
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _refuse_unknown(table: str, given: Mapping[str, Any], known: Mapping[str, Option]) -> None:
    unknown = next((name for name in given if name not in known), None)
    if unknown is None:
        return
    takes = f"It takes {', '.join(map(str, known.values()))}." if known else "It takes no options."
    raise OptionError(f"{table} has no option {shown(unknown)}.{did_you_mean(unknown, known)} {takes}")


def _refuse_missing(table: str, options_in: str, given: Mapping[str, Any], known: Mapping[str, Option]) -> None:
    missing = [str(option) for option in known.values() if option.default is REQUIRED and option.name not in given]
    if missing:
        raise OptionError(
            f"{table} needs the option {', '.join(missing)}. Set it with --set, or in a run file under [{options_in}]."
        )


def refuse_unnamed_options(source: Source, target: Any) -> None:
    """Check that a component names all of its options, as one of a package must.

    Raises:
        PluginError: it takes `**kwargs`.
    """
    var_keyword = _var_keyword(source, target)
    if var_keyword:
        who = f"Ask the authors of {source.entry.package} to name them, or write your own." if source.entry else "Name them."
        raise PluginError(
            f"{source} takes **{var_keyword}, so a misspelt option would be lost. A published plugin must name its options. "
            f"{who}"
        )


def _takes_any_option(source: Source, target: Any) -> bool:
    var_keyword = _var_keyword(source, target)
    if var_keyword and source.entry:
        refuse_unnamed_options(source, target)
    if var_keyword:
        logger.warning("%s takes **%s: its options cannot be checked.", source, var_keyword)
    return var_keyword is not None


def _var_keyword(source: Source, target: Any) -> str | None:
    return next((p.name for p in parameters_of(source, target) if p.kind is p.VAR_KEYWORD), None)


def is_checked(annotation: Any) -> bool:
    """Return whether an annotation says anything. One whose name cannot be resolved stays a string."""
    return annotation not in (REQUIRED, Any) and not isinstance(annotation, str)


def checked_option(source: Source, option: Option, value: Any, folders: Sequence[Path]) -> Any:
    """Return the value of one option as its annotation has it.

    Raises:
        OptionError: it is of another type, or its annotation is none that can be checked.
    """
    if not is_checked(option.annotation):
        return value
    if isinstance(value, str) and CallableReference in (option.annotation, *get_args(option.annotation)):
        return absolute_reference(value, folders)
    value_shown = shown_unless_secret(option.name, value)
    found = f"{_table(source)}: the option {option.name!r} is {value_shown}"
    try:
        checked = validated(option.annotation, value)
    except ValidationError as error:
        raise OptionError(_refused(found, option, error)) from error
    except Exception as error:
        # The types of plugins have validators of their own, and pydantic refuses some annotations altogether.
        raise OptionError(f"{found}{_not_its_type(option)} ({printable(error, 2 * LIMIT)}).") from error
    if isinstance(checked, list) and list[CallableReference] in (option.annotation, *get_args(option.annotation)):
        return [absolute_reference(item, folders) for item in checked]
    return _absolute(checked, folders)


def _refused(found: str, option: Option, error: ValidationError) -> str:
    details = [detail for detail in error.errors() if detail["type"] != "none_required"] or error.errors()
    is_limit = all(
        detail["type"] in OF_LIMITS and not any(isinstance(part, int) for part in detail["loc"]) for detail in details
    )
    # It is of the right type, so to say that it is not would mislead.
    if is_limit and has_limits(option.annotation):
        reasons = "; ".join(detail["msg"] for detail in details).replace("Input should", "It should")
        return f"{found}. {printable(reasons, 2 * LIMIT)}."
    reasons = "; ".join(detail["msg"] for detail in error.errors())
    return f"{found}{_not_its_type(option)} ({printable(reasons, 2 * LIMIT)})."


def has_limits(annotation: Any) -> bool:
    """Return whether an annotation says more than a type, such as the smallest number."""
    return get_origin(annotation) is Annotated or any(map(has_limits, get_args(annotation)))


def _not_its_type(option: Option) -> str:
    return f", which is not {type_name(option.annotation)}"


def _table(source: Source) -> str:
    table = "optimizer.schedule_kwargs" if source.kind == "schedule" else source.kind
    return f"[{table}] {source.name!r} ({source.owner})"


def _absolute(value: Any, folders: Sequence[Path]) -> Any:
    if isinstance(value, list | tuple):
        items = [_absolute(item, folders) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return (find_file(str(value), folders) or value) if isinstance(value, Path) else value
