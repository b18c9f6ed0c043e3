"""Call plugins, and name the plugin if it raises or changes its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import TypeCheckError

from plugrad.errors import ContractError, FieldMissing, InputsChanged, WronglyMade
from plugrad.host.author import asked_for, fields_missing, kind_of, line_of
from plugrad.host.missing_key import missing_key
from plugrad.host.misspelt_field import misspelt_field
from plugrad.host.process_state import StateKept
from plugrad.host.received import Received
from plugrad.registry.blame import Blamed, advice_for, told
from plugrad.shown import text_of

WRITES_INTO_INPUTS = (
    "leaf Variable that requires grad is being used in an in-place",
    "is a view and is being modified inplace",
)
"""What PyTorch says, which refuses some changes in place itself."""
CHANGED_FOR_GRADIENT = "has been modified by an inplace operation"


def call_plugin(owner: str, call: Callable[..., Any], *args: Any) -> Any:
    """Call a plugin's function.

    Raises:
        ContractError: the plugin raised, `SystemExit` and the like included; its exception is the `__cause__`. Or it
            returned a coroutine, or left the process in another state.
        PlugradError: the plugin raised one itself; it is passed on unchanged.
    """
    with StateKept(owner), blaming(owner):
        returned = call(*args)
    refuse_coroutine(owner, returned)
    return returned


def call_with_inputs(owner: str, call: Callable[..., Any], inputs: Any, received: Received | None = None) -> Any:
    """Call a plugin's function, and check that it does not change its inputs: other components receive the same ones.

    Args:
        received: the inputs as they are before the call, where the caller has remembered them.

    Raises:
        FieldMissing: the plugin raised because it read an optional field that it did not ask for.
        ContractError: the plugin raised, or changed its inputs.
    """
    received = received or Received.of(inputs)
    try:
        returned = call_plugin(owner, call, inputs)
    except ContractError as error:
        missing = fields_missing(inputs, error.__cause__) if error.__cause__ else []
        if not missing:
            raise
        raise _field_missing(error, inputs, missing) from error.__cause__
    check_unchanged(owner, received, inputs)
    return returned


def check_unchanged(owner: str, received: Received, inputs: Any) -> None:
    """Raise InputsChanged if the inputs are no longer as a plugin received them."""
    changed = received.changed(inputs)
    if changed:
        raise changed_in_place(owner, changed)


def blaming(owner: str) -> Blamed:
    """Return a context that is a call of the plugin's, and in which every exception is the plugin's."""
    return Blamed(owner, lambda error: raised_by(owner, error))


def raised_by(owner: str, error: BaseException) -> ContractError:
    """Return the error that names the plugin which raised `error`."""
    text = text_of(error)
    if any(words in text for words in WRITES_INTO_INPUTS):
        return changed_in_place(owner, None)
    message = f"TypeCheckError: {_shape_error(text)}" if isinstance(error, TypeCheckError) else told(error)
    line = line_of(error)
    if isinstance(error, WronglyMade):
        return ContractError(f"{owner}{f', at {line}' * bool(line)}: {message}")
    seen = f"{owner} raised {message}{f' ({line})' if line else ''}"
    missing = missing_key(error) or misspelt_field(error)
    return (
        ContractError(f"{seen}. {missing.seen}", fix=missing.fix) if missing else ContractError(f"{seen}{advice_for(error)}")
    )


def no_gradient(owner: str, error: RuntimeError) -> ContractError:
    """Return the error that says why the gradient of a plugin's loss cannot be computed."""
    if CHANGED_FOR_GRADIENT in str(error):
        return ContractError(
            f"{owner} returned a loss whose gradient cannot be computed: it changed a tensor in place that the gradient "
            "needs.",
            why="PyTorch computes a gradient from the values that a tensor had when it was used.",
            fix="Write x = torch.where(inputs.loss_mask, x, 0.0) instead of x[~inputs.loss_mask] = 0, and no function with "
            "a trailing underscore.",
        )
    return ContractError(f"{owner} returned a loss whose gradient cannot be computed: {error}")


def _field_missing(error: ContractError, inputs: Any, missing: list[str]) -> FieldMissing:
    needs = ", ".join(repr(name) for name in sorted({*missing, *asked_for(inputs)}))
    passes = ", passes=2" if "again" in missing else ""
    names = " and ".join(f"inputs.{name}" for name in missing)
    if missing == ["parameters"]:
        return FieldMissing(
            f"{str(error).rstrip('.')}. inputs.parameters is None.",
            fix="Give the loss's class a method trained(self, sizes: plugrad.ModelSizes) that returns them in a module.",
        )
    return FieldMissing(
        f"{str(error).rstrip('.')}. {names} {'is' if len(missing) == 1 else 'are'} None.",
        fix=f"Write @{kind_of(inputs)}(needs={{{needs}}}{passes}). A plugin receives an optional field only if it asks for "
        "it.",
    )


def changed_in_place(owner: str, field: str | None) -> InputsChanged:
    """Return the error that names the field which a plugin changed, if it is known."""
    return InputsChanged(
        f"{owner} changed {f'{field!r} of its inputs' if field else 'one of its inputs'} in place.",
        why="Other components receive the same inputs.",
        fix="Work on a copy: x.clone(), `x = x + y` instead of `x += y`, functions without a trailing underscore, "
        "dict(rollout) for a rollout.",
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
