"""Read a component's signature: its parameters, their annotations, and the form of its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, Literal, get_type_hints

from plugrad.contracts.markers import AdvantageFacts, Facts, LossFacts, MetricFacts
from plugrad.errors import PluginError, with_article
from plugrad.registry.resolve import Source

FACTS: dict[str, Facts] = {"loss": LossFacts(), "advantage": AdvantageFacts(), "metric": MetricFacts()}
"""The kinds whose components are called with inputs, and the facts of a component without a marker."""
BATCH_FORM = "BatchLossInputs"


def parameters_of(source: Source, target: Any) -> list[inspect.Parameter]:
    """Return the parameters of `target`, its inputs included.

    Raises:
        PluginError: the signature is not one that a plugin can have.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError) as error:
        raise PluginError(f"{source} has no readable signature, so its options are unknown: {error}.") from error
    takes_inputs = parameters and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    if not is_constructed(source, target) and not takes_inputs:
        raise _no_inputs(source)
    # Not hasattr: every class has the `__call__` of its metaclass.
    if inspect.isclass(target) and source.kind in FACTS and not any("__call__" in vars(base) for base in target.__mro__):
        raise PluginError(f"{source} is a class without `__call__(self, inputs)`, so it cannot be called. Add that method.")
    return parameters


def is_constructed(source: Source, target: Any) -> bool:
    """Return whether calling `target` with the options makes the component: true of classes and factories."""
    return inspect.isclass(target) or source.kind not in FACTS


def form_of(source: Source, target: Any) -> Literal["sequence", "batch"]:
    """Return "batch" if the first parameter of the loss is annotated `BatchLossInputs`, else "sequence"."""
    if source.kind != "loss":
        return "sequence"
    called = target.__call__ if inspect.isclass(target) else target
    parameters = [p for p in inspect.signature(called).parameters.values() if p.name != "self"]
    if not parameters:
        raise _no_inputs(source)
    hint = hints_of(called).get(parameters[0].name, parameters[0].annotation)
    # A quoted annotation below `from __future__ import annotations` is a string with the quotes in it.
    annotation = hint.strip("'\"") if isinstance(hint, str) else getattr(hint, "__name__", "")
    return "batch" if annotation.rpartition(".")[2] == BATCH_FORM else "sequence"


def with_less(target: Callable[..., Any], without: Collection[str]) -> Callable[..., Any]:
    """Return `target` with the signature of the options that are left to a run file: none of the names in `without`."""
    signature, hints = inspect.signature(target), hints_of(target)
    known = [parameter for parameter in signature.parameters.values() if parameter.name not in without]

    def called(*args: Any, **options: Any) -> Any:
        return target(*args, **options)

    called.__signature__ = signature.replace(parameters=known)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: hints[each.name] for each in known if each.name in hints}
    return called


def hints_of(target: Any) -> dict[str, Any]:
    """Return the resolved annotations of a function, or of a class's constructor."""
    annotated = target.__init__ if inspect.isclass(target) else target
    annotated = annotated if inspect.isfunction(annotated) or inspect.ismethod(annotated) else type(annotated).__call__
    try:
        return get_type_hints(annotated, include_extras=True)
    except Exception:
        # Names under TYPE_CHECKING cannot be resolved here; the annotations stay strings and those options unchecked.
        return {}


def _no_inputs(source: Source) -> PluginError:
    return PluginError(
        f"{source} takes no inputs. The first parameter of {with_article(source.kind)} is its inputs; "
        "the others are its options."
    )
