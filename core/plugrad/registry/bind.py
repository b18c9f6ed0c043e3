"""Bind: check a component's options against its signature, and bind them."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from plugrad.contracts.markers import (
    AdvantageFacts,
    CallableReference,
    Facts,
    LossFacts,
    MetricFacts,
    facts_of,
    needs_of,
)
from plugrad.errors import OptionError, PluginError, PlugradError, did_you_mean, with_article
from plugrad.paths import find_file
from plugrad.registry.resolve import Source, absolute_reference

logger = logging.getLogger("plugrad")

FACTS: dict[str, Facts] = {"loss": LossFacts(), "advantage": AdvantageFacts(), "metric": MetricFacts()}
BATCH_FORM = "BatchLossInputs"
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
            return f"{self.name}={self.default!r}"
        return f"{self.name} (required, {type_name(self.annotation)})"


@dataclass(frozen=True)
class Component:
    """A component with its options bound. It holds no state: `create` makes a fresh instance."""

    source: Source
    target: Callable[..., Any]
    options: Mapping[str, Any]
    """Every option that the component names, defaults included."""
    facts: Facts | None
    form: Literal["sequence", "batch"]
    """For a loss: whether it takes one sequence or a micro-batch."""

    @property
    def kind(self) -> str:
        """Which of the five kinds it is of."""
        return self.source.kind

    @property
    def name(self) -> str:
        """The name under which its metrics are reported."""
        return self.source.name

    @property
    def needs(self) -> frozenset[str]:
        """The optional inputs that it asks for with these options."""
        if self.facts is None:
            return frozenset()
        try:
            return needs_of(self.facts, self.options)
        except PlugradError:
            raise
        except Exception as error:
            raise PluginError(
                f"{self} cannot say what it needs: its `needs` raised {type(error).__name__}: {error}"
            ) from error

    def __str__(self) -> str:
        return str(self.source)

    def create(self) -> Any:
        """Make what is called: a fresh instance of a class, or the function with its options bound.

        Raises:
            PluginError: the constructor raises.
        """
        if not _is_constructed(self.source, self.target):
            return partial(self.target, **self.options)
        try:
            return self.target(**self.options)
        except PlugradError:
            raise
        except Exception as error:
            options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
            raise PluginError(
                f"{self} cannot be made with {options or 'its defaults'}: {type(error).__name__}: {error}"
            ) from error


def bind(source: Source, target: Any, options: Mapping[str, Any], folders: Sequence[Path] = ()) -> Component:
    """Check `options` against the signature of `target` and bind them, defaults included.

    Options annotated `Path` or `CallableReference` are looked up in `folders` and become absolute.

    Raises:
        OptionError: an option is unknown, missing, or of the wrong type.
        PluginError: the signature is not one that a plugin can have.
    """
    known = {option.name: option for option in options_of(source, target)}
    table = f"[{source.kind}] {source.name!r} ({source.owner})"
    if not _takes_any_option(source, target):
        for name in (name for name in options if name not in known):
            raise OptionError(f"{table} has no option {name!r}.{did_you_mean(name, known)} {_takes(known)}")
    missing = [str(o) for o in known.values() if o.default is REQUIRED and o.name not in options]
    if missing:
        raise OptionError(
            f"{table} needs the option {', '.join(missing)}. Set it under [{source.kind}.kwargs], or with --set."
        )
    bound = {name: option.default for name, option in known.items() if name not in options}
    given = {
        name: _checked(table, known[name], value, folders) if name in known else value for name, value in options.items()
    }
    facts = facts_of(target, FACTS[source.kind]) if source.kind in FACTS else None
    return Component(source, target, bound | given, facts, form_of(source, target))


def options_of(source: Source, target: Any) -> list[Option]:
    """Return the options that `target` names, in order.

    Raises:
        PluginError: the signature is not one that a plugin can have.
    """
    parameters = _parameters(source, target)
    hints = _hints(target)
    return [
        Option(p.name, hints.get(p.name, p.annotation), p.default)
        for p in parameters[0 if _is_constructed(source, target) else 1 :]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]


def form_of(source: Source, target: Any) -> Literal["sequence", "batch"]:
    """Return "batch" if the first parameter of the loss is annotated `BatchLossInputs`, else "sequence"."""
    if source.kind != "loss":
        return "sequence"
    called = target.__call__ if inspect.isclass(target) else target
    parameters = [p for p in inspect.signature(called).parameters.values() if p.name != "self"]
    if not parameters:
        raise PluginError(_no_inputs(source))
    hint = _hints(called).get(parameters[0].name, parameters[0].annotation)
    # A quoted annotation below `from __future__ import annotations` is a string with the quotes in it.
    annotation = hint.strip("'\"") if isinstance(hint, str) else getattr(hint, "__name__", "")
    return "batch" if annotation.rpartition(".")[2] == BATCH_FORM else "sequence"


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


def _parameters(source: Source, target: Any) -> list[inspect.Parameter]:
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError) as error:
        raise PluginError(f"{source} has no signature that can be read, so its options are not known: {error}.") from error
    takes_inputs = parameters and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    if not _is_constructed(source, target) and not takes_inputs:
        raise PluginError(_no_inputs(source))
    # Not hasattr: every class has the `__call__` of its metaclass.
    if inspect.isclass(target) and source.kind in FACTS and not any("__call__" in vars(base) for base in target.__mro__):
        raise PluginError(f"{source} is a class without `__call__(self, inputs)`: that is what would be called.")
    return parameters


def _no_inputs(source: Source) -> str:
    return (
        f"{source} takes no inputs: the first parameter of {with_article(source.kind)} is its inputs, "
        "and those after it are its options."
    )


def _is_constructed(source: Source, target: Any) -> bool:
    """Whether calling `target` with the options makes the component, as a class or an environment's factory does."""
    return inspect.isclass(target) or source.kind not in FACTS


def _takes_any_option(source: Source, target: Any) -> bool:
    var_keyword = [p for p in _parameters(source, target) if p.kind is p.VAR_KEYWORD]
    if not var_keyword:
        return False
    if source.entry:
        raise PluginError(
            f"{source} takes **{var_keyword[0].name}, so a misspelt option would be lost. A published plugin names its "
            f"options; ask the authors of {source.entry.package} to, or write your own."
        )
    logger.warning("%s takes **%s: its options cannot be checked.", source, var_keyword[0].name)
    return True


def _checked(table: str, option: Option, value: Any, folders: Sequence[Path]) -> Any:
    if option.annotation in (REQUIRED, Any) or isinstance(option.annotation, str):
        return value
    if isinstance(value, str) and CallableReference in (option.annotation, *get_args(option.annotation)):
        return absolute_reference(value, folders)
    try:
        checked = _validate(option.annotation, value)
    except ValidationError as error:
        reasons = "; ".join(detail["msg"] for detail in error.errors())
        raise OptionError(
            f"{table}: the option {option.name!r} is {value!r}, which is not {type_name(option.annotation)} ({reasons})."
        ) from error
    if isinstance(checked, list) and list[CallableReference] in (option.annotation, *get_args(option.annotation)):
        return [absolute_reference(item, folders) for item in checked]
    return _absolute(checked, folders)


def _absolute(value: Any, folders: Sequence[Path]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_absolute(item, folders) for item in value)
    return (find_file(str(value), folders) or value) if isinstance(value, Path) else value


def _validate(annotation: Any, value: Any) -> Any:
    try:
        adapter = TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError):
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        # Strict as JSON is strict: TOML's list may become a tuple and its string a Path, but "0.1" is no number.
        return adapter.validate_json(json.dumps(value), strict=True)
    except TypeError:
        return adapter.validate_python(value, strict=True)


def _hints(target: Any) -> dict[str, Any]:
    annotated = target.__init__ if inspect.isclass(target) else target
    annotated = annotated if inspect.isfunction(annotated) or inspect.ismethod(annotated) else type(annotated).__call__
    try:
        return get_type_hints(annotated, include_extras=True)
    except Exception:
        # Names under TYPE_CHECKING cannot be resolved here; the annotations stay strings and those options unchecked.
        return {}


def _takes(known: Mapping[str, Option]) -> str:
    return f"It takes {', '.join(map(str, known.values()))}." if known else "It takes no options."
