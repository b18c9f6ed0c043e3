"""Call plugins, and name the plugin if it raises or changes its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import TypeCheckError
from torch import Tensor

from plugrad.errors import ContractError, InputsChanged, PlugradError


def call_plugin(owner: str, call: Callable[..., Any], *args: Any) -> Any:
    """Call a plugin's function.

    Raises:
        ContractError: the plugin raised. Its exception is the `__cause__`.
        PlugradError: the plugin raised one itself; it is passed on unchanged.
    """
    try:
        return call(*args)
    except PlugradError:
        raise
    except Exception as error:
        raise raised_by(owner, error) from error


def call_with_inputs(owner: str, call: Callable[..., Any], inputs: Any) -> Any:
    """Call a plugin's function, and check that it does not change its inputs: other components receive the same tensors.

    PyTorch counts in-place changes of every tensor, including views, so the check needs no copy.

    Raises:
        ContractError: the plugin raised, or changed an input tensor in place.
    """
    before = _versions(inputs)
    returned = call_plugin(owner, call, inputs)
    changed = [name for name, version in _versions(inputs).items() if version != before[name]]
    if changed:
        raise changed_in_place(owner, changed[0])
    return returned


def raised_by(owner: str, error: BaseException) -> ContractError:
    """Return the error that names the plugin which raised `error`."""
    message = _shape_error(str(error)) if isinstance(error, TypeCheckError) else str(error)
    return ContractError(f"{owner} raised {type(error).__name__}: {message}")


def changed_in_place(owner: str, field: str) -> InputsChanged:
    """Return the error that names the field which a plugin changed."""
    return InputsChanged(
        f"{owner} changed {field!r} of its inputs in place. Other components receive the same inputs. Work on a copy: "
        "x.clone(), `x = x + y` instead of `x += y`, functions without a trailing underscore, dict(rollout) for a rollout."
    )


def _versions(inputs: Any) -> dict[str, int]:
    return {name: value._version for name, value in vars(inputs).items() if isinstance(value, Tensor)}


def _shape_error(message: str) -> str:
    """Return jaxtyping's message on one line, without its ruler and the repeated annotations."""
    told = message.partition("Parameter annotations")[0]
    return " ".join(word for word in told.split() if word.strip("-"))
