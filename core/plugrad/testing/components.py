"""What the kit accepts as a component: a reference, a function or a class. And how its kind is found."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plugrad.contracts.markers import FACTS_ATTRIBUTE, AdvantageFacts, LossFacts, MetricFacts
from plugrad.errors import PluginError, did_you_mean, with_article
from plugrad.host.load import load_component
from plugrad.registry.bind import Component, bind
from plugrad.registry.resolve import Source, resolve_callable
from plugrad.registry.scan import KINDS, Kind, scan

ComponentLike = str | Callable[..., Any] | Component
KIND_OF_FACTS: dict[type, Kind] = {LossFacts: "loss", AdvantageFacts: "advantage", MetricFacts: "metric"}
KIND_OF_INPUTS: dict[str, Kind] = {
    "LossInputs": "loss",
    "BatchLossInputs": "loss",
    "AdvantageInputs": "advantage",
    "MetricInputs": "metric",
}


class UnclearKind(PluginError):
    """A component does not show its kind."""


PASS_KIND = f"Pass --kind (in Python, kind=): {', '.join(KINDS)}."


def component_of(given: ComponentLike, kind: Kind, options: Mapping[str, Any] | None = None) -> Component:
    """Return a component with its options bound.

    Args:
        given: `name`, `package/name`, `module:function`, `file.py:function`, or the function or class itself.
        kind: its kind.
        options: its options; the rest keep their defaults.

    Raises:
        PlugradError: it is not found, does not import, or does not take these options.
    """
    if isinstance(given, Component):
        return given
    if isinstance(given, str):
        return load_component(kind, given, dict(options or {}), scan(), [Path.cwd()])
    name = getattr(given, "__name__", type(given).__name__)
    target = f"{getattr(given, '__module__', '?')}:{getattr(given, '__qualname__', name)}"
    return bind(Source(kind, target, name, target), given, options or {})


def kind_of(given: ComponentLike) -> Kind:
    """Return the kind of a component, from the installed packages, its marker, or its first parameter.

    Raises:
        UnclearKind: neither shows it.
        PluginError: it could be several kinds, or there is none of that name.
    """
    if isinstance(given, Component):
        return given.source.kind  # type: ignore[return-value]
    if isinstance(given, str) and ":" not in given:
        return _kind_of_name(given)
    target = resolve_callable(given) if isinstance(given, str) else given
    facts = KIND_OF_FACTS.get(type(getattr(target, FACTS_ATTRIBUTE, None)))
    kind = facts or _kind_of_signature(target) or _kind_of_class(target)
    if kind is None:
        raise UnclearKind(f"the kind of {getattr(target, '__name__', target)!r} is not clear. {PASS_KIND}")
    return kind


def _kind_of_name(reference: str) -> Kind:
    package, _, name = reference.rpartition("/")
    found = {e.kind: e for e in scan().entries if e.name == name and package in ("", e.package)}
    if len(found) == 1:
        return next(iter(found))
    if not found:
        hint = did_you_mean(name, {e.name for e in scan().entries})
        raise PluginError(
            f"no plugin of any kind is called {reference!r}.{hint} `plugrad plugins list` shows what is installed."
        )
    raise PluginError(f"{reference!r} is the name of {' and '.join(with_article(kind) for kind in found)}. {PASS_KIND}")


def _kind_of_signature(target: Any) -> Kind | None:
    called = getattr(target, "__call__", None) if inspect.isclass(target) else target  # noqa: B004
    try:
        parameters = [p for p in inspect.signature(called).parameters.values() if p.name != "self"]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    hint = parameters[0].annotation if parameters else None
    words = hint.strip("'\"") if isinstance(hint, str) else getattr(hint, "__name__", "")
    return KIND_OF_INPUTS.get(words.rpartition(".")[2])


def _kind_of_class(target: Any) -> Kind | None:
    has_examples = all(hasattr(target, method) for method in ("train_examples", "eval_examples"))
    if has_examples and any(hasattr(target, method) for method in ("score", "play")):
        return "environment"
    members = inspect.getmembers_static(target) if inspect.isclass(target) else []
    return "extension" if any(hasattr(member, "plugrad_impl") for _, member in members) else None
