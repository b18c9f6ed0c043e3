"""Refuse losses with parameters that nothing would update: those that their `trained` does not make."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from plugrad.contracts.loss import BatchLossInputs
from plugrad.errors import PluginError

LARGEST_GRAPH = 100_000
NO_METHOD = (
    "Nothing would update it: its gradient would grow, and ranks would drift apart. To train it, make it in a method of the "
    "loss's class, trained(self, sizes: plugrad.ModelSizes) -> torch.nn.Module, and read it from inputs.parameters. "
    "Make it an option of the loss, compute it from the batch, or freeze it with requires_grad_(False) if it is fixed."
)
MADE_TOO_EARLY = (
    "It was made before `trained` was called, with random numbers that do not come from the run's seed. Make it in trained."
)
NOT_FROM_INPUTS = (
    "What the run updates, and gathers where it is sharded, is in inputs.parameters. Read it there: "
    "inputs.parameters[name], or torch.func.functional_call(self.module, inputs.parameters, x) instead of self.module(x)."
)


def check_owns_no_parameters(owner: str, made: Any, has_trained: bool = False) -> None:
    """Raise PluginError if a loss, as `Component.create` made it, holds a tensor with a gradient.

    With a method `trained` it may make some there, and not before.

    Looked through are the attributes of an instance and the global and enclosing variables of a function.
    """
    found = next(_trained_in(made), None)
    if found:
        raise _refused(owner, *found, MADE_TOO_EARLY if has_trained else NO_METHOD)


def check_graph_ends_at_inputs(owner: str, made: Any, loss: Tensor, inputs: BatchLossInputs) -> None:
    """Raise PluginError if the loss was computed from a tensor with a gradient that is none of its inputs.

    The inputs that have a gradient must be leaves of the graph, or computed from such leaves.
    """
    values = [*vars(inputs).values(), *(inputs.parameters or {}).values()]
    given = {id(leaf) for value in values if isinstance(value, Tensor) for leaf in _leaves(value)}
    strange = next((leaf for leaf in _leaves(loss) if id(leaf) not in given), None)
    if strange is not None:
        names = {id(tensor): name for name, tensor in _trained_in(made)}
        remedy = NO_METHOD if inputs.parameters is None else NOT_FROM_INPUTS
        raise _refused(owner, names.get(id(strange), "a tensor"), strange, remedy)


def variables_of(function: FunctionType) -> dict[str, Any]:
    """Return the global and enclosing variables that a function uses, by name."""
    try:
        known = inspect.getclosurevars(function)
    except ValueError:
        # A variable of the enclosing function has no value yet.
        return {}
    return {**known.globals, **known.nonlocals}


def _refused(owner: str, name: str, tensor: Tensor, remedy: str) -> PluginError:
    return PluginError(f"{owner} has a parameter of its own: {name}, of shape {list(tensor.shape)}. {remedy}")


def _trained_in(made: Any) -> Iterator[tuple[str, Tensor]]:
    target = made.func if isinstance(made, partial) else made
    if inspect.isfunction(target):
        yield from _trained(variables_of(target), "")
    elif isinstance(target, nn.Module):
        yield from ((f"self.{name}", p) for name, p in target.named_parameters() if p.requires_grad)
        yield from _trained(vars(target), "self.")
    else:
        yield from _trained(getattr(target, "__dict__", {}), "self.")


def _trained(variables: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in variables.items():
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        for label, part in [(f"{prefix}{name}", value), *((f"{prefix}{name}[{key!r}]", part) for key, part in parts)]:
            if isinstance(part, nn.Module):
                yield from ((f"{label}.{inner}", p) for inner, p in part.named_parameters() if p.requires_grad)
            elif isinstance(part, Tensor) and part.requires_grad and part.is_leaf:
                yield label, part


def _leaves(result: Tensor) -> Iterator[Tensor]:
    """Yield the leaves of the graph behind a tensor."""
    if result.grad_fn is None:
        yield from [result] if result.requires_grad else []
        return
    seen, todo = {result.grad_fn}, [result.grad_fn]
    while todo and len(seen) < LARGEST_GRAPH:
        node = todo.pop()
        if hasattr(node, "variable"):
            yield node.variable
        following = {step for step, _ in node.next_functions if step is not None} - seen
        seen |= following
        todo += following
