"""Call plugins, and name the plugin if it raises or changes its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import TypeCheckError

from plugrad.errors import ContractError, InputsChanged
from plugrad.host.calls_in_progress import InProgress
from plugrad.host.process_state import StateKept
from plugrad.host.received import Received
from plugrad.registry.blame import Blamed, advice_for, told


def call_plugin(owner: str, call: Callable[..., Any], *args: Any) -> Any:
    """Call a plugin's function.

    Raises:
        ContractError: the plugin raised, `SystemExit` and the like included; its exception is the `__cause__`. Or it
            returned a coroutine, or left the process in another state.
        PlugradError: the plugin raised one itself; it is passed on unchanged.
    """
    with StateKept(owner), InProgress(owner), blaming(owner):
        returned = call(*args)
    refuse_coroutine(owner, returned)
    return returned


def call_with_inputs(owner: str, call: Callable[..., Any], inputs: Any) -> Any:
    """Call a plugin's function, and check that it does not change its inputs: other components receive the same ones.

    Raises:
        ContractError: the plugin raised, or changed its inputs.
    """
    received = Received.of(inputs)
    returned = call_plugin(owner, call, inputs)
    check_unchanged(owner, received, inputs)
    return returned


def check_unchanged(owner: str, received: Received, inputs: Any) -> None:
    """Raise InputsChanged if the inputs are no longer as a plugin received them."""
    changed = received.changed(inputs)
    if changed:
        raise changed_in_place(owner, changed)


def blaming(owner: str) -> Blamed:
    """Return a context in which every exception is the plugin's."""
    return Blamed(lambda error: raised_by(owner, error))


def raised_by(owner: str, error: BaseException) -> ContractError:
    """Return the error that names the plugin which raised `error`."""
    message = (
        f"TypeCheckError: {_shape_error(str(error))}"
        if isinstance(error, TypeCheckError)
        else told(error) + advice_for(error)
    )
    return ContractError(f"{owner} raised {message}")


def changed_in_place(owner: str, field: str) -> InputsChanged:
    """Return the error that names the field which a plugin changed."""
    return InputsChanged(
        f"{owner} changed {field!r} of its inputs in place. Other components receive the same inputs. Work on a copy: "
        "x.clone(), `x = x + y` instead of `x += y`, functions without a trailing underscore, dict(rollout) for a rollout."
    )


def refuse_coroutine(owner: str, returned: object) -> None:
    """Raise ContractError if a plugin returned a coroutine, which nobody would await."""
    if not inspect.isawaitable(returned) and not inspect.isasyncgen(returned):
        return
    if inspect.iscoroutine(returned):
        # Otherwise Python warns that it was never awaited.
        returned.close()
    raise ContractError(
        f"{owner} returned {type(returned).__name__}: it is asynchronous, and nobody would await it. Write a plain `def` "
        "that returns asyncio.run(...) of your coroutine."
    )


def _shape_error(message: str) -> str:
    """Return jaxtyping's message on one line, without its ruler and the repeated annotations."""
    told_shapes = message.partition("Parameter annotations")[0]
    return " ".join(word for word in told_shapes.split() if word.strip("-"))
