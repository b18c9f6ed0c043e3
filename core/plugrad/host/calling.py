"""Calling into a plugin: what it raises or changes is its own doing, and is reported so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import TypeCheckError
from torch import Tensor

from plugrad.errors import ContractError, InputsChanged, PlugradError


def call_plugin(owner: str, call: Callable[..., Any], *args: Any) -> Any:
    """Call a plugin's function.

    Raises:
        ContractError: the plugin raised; its exception is the `__cause__`.
        PlugradError: as it is, where the plugin raised one on purpose.
    """
    try:
        return call(*args)
    except PlugradError:
        raise
    except Exception as error:
        raise raised_by(owner, error) from error


def call_with_inputs(owner: str, call: Callable[..., Any], inputs: Any) -> Any:
    """Call a plugin's function with its inputs, which it must leave as they are: others get the same tensors.

    PyTorch counts the changes in place of every tensor, views included, so that this costs no copy.

    Raises:
        ContractError: the plugin raised, or changed a tensor of its inputs in place.
    """
    before = _versions(inputs)
    returned = call_plugin(owner, call, inputs)
    changed = [name for name, version in _versions(inputs).items() if version != before[name]]
    if changed:
        raise changed_in_place(owner, changed[0])
    return returned


def raised_by(owner: str, error: BaseException) -> ContractError:
    """Return the error that says whose exception `error` is."""
    message = _shape_error(str(error)) if isinstance(error, TypeCheckError) else str(error)
    return ContractError(f"{owner} raised {type(error).__name__}: {message}")


def changed_in_place(owner: str, field: str) -> InputsChanged:
    """Return the error that says what a plugin changed."""
    return InputsChanged(
        f"{owner} changed {field!r} of its inputs in place, which others are given too. Work on a copy: x.clone(), "
        "`x = x + y` and not `x += y`, functions without a trailing underscore; dict(rollout) for a rollout."
    )


def _versions(inputs: Any) -> dict[str, int]:
    return {name: value._version for name, value in vars(inputs).items() if isinstance(value, Tensor)}


def _shape_error(message: str) -> str:
    """Return jaxtyping's message on one line, without its ruler and the annotations that it repeats."""
    told = message.partition("Parameter annotations")[0]
    return " ".join(word for word in told.split() if word.strip("-"))
