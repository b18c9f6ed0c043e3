"""The parameters that a loss trains: what its method `trained` makes, checked, and how they are named in a run."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from plugrad.contracts.model_sizes import ModelSizes
from plugrad.errors import ContractError, PluginError, did_you_mean
from plugrad.host.calling import call_plugin
from plugrad.host.trial import random_state_of
from plugrad.registry.bind import Component
from plugrad.shown import shown

logger = logging.getLogger("plugrad")

METHOD = "trained"
EXAMPLE = "return torch.nn.Linear(sizes.hidden_size, 1, dtype=sizes.dtype)"


def has_trained(component: Component, instance: object) -> bool:
    """Return whether a loss trains parameters of its own.

    Raises:
        PluginError: it has something called `trained` that cannot be called with the sizes of a model.
    """
    method = getattr(instance, METHOD, None) if inspect.isclass(component.target) else None
    if method is None:
        return False
    if not callable(method):
        raise PluginError(
            f"{component} has an attribute {METHOD!r} of type {type(method).__name__}. This is the name of the method that "
            f"makes a loss's own parameters: write def {METHOD}(self, sizes), or choose another name."
        )
    try:
        inspect.signature(method).bind(object())
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{component}: its {METHOD} cannot be called with the sizes of the model alone: {error}. Write "
            f"def {METHOD}(self, sizes: plugrad.ModelSizes) -> torch.nn.Module."
        ) from error
    return True


def make_module(component: Component, instance: Any, sizes: ModelSizes, seed: int) -> nn.Module:
    """Return the module that a loss makes for a model of these sizes. Its random numbers come from this seed alone.

    Raises:
        ContractError: the loss raised, or made something that cannot be trained beside a policy.
    """
    owner = f"{component} in its {METHOD}"
    with random_state_of(seed):
        made = call_plugin(owner, instance.trained, sizes)
    if not isinstance(made, nn.Module):
        raise ContractError(
            f"{owner} returned {type(made).__name__}; it returns a torch.nn.Module.", fix=f"Write {EXAMPLE}."
        )
    parameters = dict(made.named_parameters())
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ContractError(
            f"{owner} returned {type(made).__name__} without a parameter to train.",
            fix="Return a module with torch.nn.Parameter, or remove the method.",
        )
    for name, parameter in parameters.items():
        _check_parameter(owner, name, parameter)
    _check_no_buffer(owner, made)
    return made


def _check_parameter(owner: str, name: str, parameter: Tensor) -> None:
    asked = f"{owner} made the parameter {name!r}"
    if isinstance(parameter, UninitializedParameter):
        raise ContractError(f"{asked} without a shape.", fix="Give its layer all sizes instead of a lazy one.")
    dtype = str(parameter.dtype).removeprefix("torch.")
    if not parameter.dtype.is_floating_point or torch.finfo(parameter.dtype).bits < 32:
        raise ContractError(
            f"{asked} in {dtype}.",
            why="In 16 bits small updates would be rounded away, and integers have no gradient.",
            fix="Make it with dtype=sizes.dtype.",
        )
    if parameter.ndim == 0:
        raise ContractError(
            f"{asked} of shape ().",
            why="A parameter without a dimension cannot be sharded over ranks.",
            fix="Give it the shape (1,): torch.nn.Parameter(torch.zeros(1, dtype=sizes.dtype)).",
        )
    if not parameter.numel():
        raise ContractError(f"{asked} of shape {tuple(parameter.shape)}, which holds no number.")
    if parameter.device.type != "cpu":
        raise ContractError(f"{asked} on {parameter.device}.", fix="Make it on the CPU: the run moves it to its device.")
    if not bool(torch.isfinite(parameter).all()):
        raise ContractError(f"{asked} with numbers that are not finite.", fix="Initialise it: torch.empty does not.")


def _check_no_buffer(owner: str, made: nn.Module) -> None:
    name = next((name for name, _ in made.named_buffers()), None)
    if name is not None:
        raise ContractError(
            f"{owner} made the buffer {name!r}.",
            why="A buffer that calls change would depend on the cut and differ between ranks.",
            fix="Compute a constant when called, on the device of the inputs, or make it a parameter with "
            "requires_grad=False: those are handed out and saved. What is learned without a gradient belongs into "
            "after_update. Normalise with LayerNorm, which has no running mean.",
        )


def file_name(label: str) -> str:
    """Return a loss's label as part of a file's name."""
    return quote(label, safe="")


def key_of(label: str) -> str:
    """Return a loss's label as a name without dots, which no attribute of a module has."""
    return f"loss:{quote(label, safe='').replace('.', '%2E')}"


class _UnknownParameter(KeyError):
    """A message about a name, which a KeyError would quote."""

    def __str__(self) -> str:
        return str(self.args[0])


class OwnParameters(dict[str, Tensor]):
    """The parameters of one loss by its own names. Another name is an error that lists them."""

    def __missing__(self, name: str) -> Tensor:
        """Raise KeyError with the names that there are."""
        raise _UnknownParameter(
            f"the loss has no parameter {shown(name)}.{did_you_mean(str(name), self)} It has {', '.join(self)}."
        )


def parameters_of_loss(of_all: Mapping[str, Tensor] | None, label: str) -> dict[str, Tensor]:
    """Return one loss's parameters by its own names for them, of those of all losses by `key_of` and these names."""
    prefix = f"{key_of(label)}."
    own = {name.removeprefix(prefix): value for name, value in (of_all or {}).items() if name.startswith(prefix)}
    return OwnParameters(own)


def trial_parameters(component: Component, instance: Any, sizes: ModelSizes) -> dict[str, Tensor]:
    """Return fresh leaves with the values of the module that a loss makes, in the dtype of the trial.

    Raises:
        ContractError: the loss makes no such module, or other values from the same seed.
    """
    first, module = (dict(make_module(component, instance, sizes, seed=0).named_parameters()) for _ in range(2))
    if first.keys() != module.keys() or not all(torch.equal(first[name], value) for name, value in module.items()):
        raise ContractError(
            f"{component} in its {METHOD} made other parameters when it was called again.",
            why="Every rank makes them, and they must be the same.",
            fix="Draw with torch's own generator, which the run seeds before the call, and depend on the sizes alone.",
        )
    return OwnParameters(
        (name, parameter.detach().to(sizes.dtype, copy=True).requires_grad_(parameter.requires_grad))
        for name, parameter in module.items()
    )


def check_parameters_are_used(owner: str, parameters: Mapping[str, Tensor] | None) -> None:
    """Check, after a backward pass, that it reached one of a loss's parameters: a small batch may not reach all.

    Raises:
        ContractError: it reached none.
    """
    if parameters and all(parameter.grad is None for parameter in parameters.values()):
        raise ContractError(
            f"{owner} makes parameters of its own ({', '.join(parameters)}), and its value depends on none of them.",
            fix="Read them from inputs.parameters without detach(), for example with "
            "torch.func.functional_call(self.module, inputs.parameters, x).",
        )
    unread = [name for name, value in (parameters or {}).items() if value.requires_grad and value.grad is None]
    if unread:
        logger.info("In its trial, %s did not use its parameters %s: what no batch reaches stays as it is.", owner, unread)
