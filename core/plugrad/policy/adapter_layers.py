"""The layers of a model that have an adapter: switched off, exchanged, merged into whole weights, and told from the base."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

TRAINED = "default"
"""PEFT's name of the adapter that is trained."""
INITIAL = "initial"
"""That of its frozen copy, where it did not begin at the base."""
BASE_LAYER = "base_layer."


def adapter_layers(model: nn.Module) -> dict[str, Any]:
    """Return PEFT's layers by name; none of a model without an adapter."""
    # Nobody imports PEFT for a model that has none.
    if not hasattr(model, "peft_config"):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def adapter_dropouts(model: nn.Module) -> dict[str, nn.Dropout]:
    """Return the dropout of each layer's adapter by name, where there is any."""
    return {
        f"{name}.lora_dropout.{key}": dropout
        for name, layer in adapter_layers(model).items()
        for key, dropout in layer.lora_dropout.items()
        if isinstance(dropout, nn.Dropout)
    }


@contextmanager
def as_it_began(model: nn.Module) -> Iterator[None]:
    """Run the model as it was before the first update: with the adapter's frozen copy, or with none.

    PEFT's own methods would turn gradients of the adapters off and on.
    """
    layers = list(adapter_layers(model).values())
    has_copy = INITIAL in model.peft_config  # type: ignore[operator]
    for layer in layers:
        if has_copy:
            layer._active_adapter = [INITIAL]
        else:
            layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._active_adapter = [TRAINED]
            layer._disable_adapters = False


@contextmanager
def without_dropout(dropouts: Sequence[nn.Dropout]) -> Iterator[None]:
    """Let dropout drop nothing in training mode either."""
    before = [dropout.p for dropout in dropouts]
    for dropout in dropouts:
        dropout.p = 0.0
    try:
        yield
    finally:
        for dropout, p in zip(dropouts, before, strict=True):
            dropout.p = p


@contextmanager
def dropping_out(dropouts: Sequence[nn.Dropout], *, drops: bool) -> Iterator[None]:
    """Turn the adapters' dropout on for a pass with gradient and leave it on: its backward pass may run layers again.

    For a pass without, turn it off while that lasts.
    """
    before = [dropout.training for dropout in dropouts]
    for dropout in dropouts:
        dropout.training = drops
    try:
        yield
    finally:
        if not drops:
            for dropout, mode in zip(dropouts, before, strict=True):
                dropout.training = mode


def base_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what the adapter is trained beside, by its names without an adapter: frozen, so a checkpoint lacks it."""
    layers = adapter_layers(model)
    for name, weight in model.state_dict(keep_vars=True).items():
        owner = _owner(name, layers)
        rest = name if owner is None else name[len(owner) + 1 :]
        if owner is None:
            yield name, weight
        elif rest.startswith(BASE_LAYER):
            yield f"{owner}.{rest.removeprefix(BASE_LAYER)}", weight


def frozen_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all that is not trained: the base, and the copy of the adapter as it began, if there is one."""
    yield from base_tensors(model)
    yield from adapter_tensors(model, INITIAL).items()


def adapter_tensors(model: nn.Module, adapter: str = TRAINED) -> dict[str, Tensor]:
    """Return the weights that an adapter is made of, by their names in the model."""
    layers = adapter_layers(model)
    found = {}
    for name, weight in model.state_dict(keep_vars=True).items():
        owner = _owner(name, layers)
        rest = "" if owner is None else name[len(owner) :]
        if not rest.startswith(f".{BASE_LAYER}") and (f".{adapter}." in rest or rest.endswith(f".{adapter}")):
            found[name] = weight
    return found


def whole_tensor(weight: Tensor) -> Tensor:
    """Return a weight that each rank may hold only a part of; every rank calls it."""
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach()


def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights that the model would have without its adapter, by their Transformers names, one matrix at a time.

    Nothing of the model changes, not by a rounding: a layer is merged in a copy.
    """
    layers, done = adapter_layers(model), set()
    for name, weight in model.state_dict(keep_vars=True).items():
        owner = _owner(name, layers)
        if owner is None:
            yield name, whole_tensor(weight)
        elif owner not in done:
            done.add(owner)
            merged = _merged(layers[owner]).state_dict()
            yield from ((f"{owner}.{own}", value) for own, value in merged.items())


@torch.no_grad()
def _merged(layer: Any) -> nn.Module:
    """Return a copy of the layer that the adapter was put around, with the adapter in its weights."""
    wholes = {id(weight): nn.Parameter(whole_tensor(weight), requires_grad=False) for weight in layer.parameters()}
    base = {id(weight) for weight in layer.get_base_layer().parameters()}
    # Merging writes into the base's weights, and reads the others.
    given = {key: nn.Parameter(w.clone(), requires_grad=False) if key in base else w for key, w in wholes.items()}
    own = copy.deepcopy(layer, given)
    own.merge(adapter_names=[TRAINED])
    found: nn.Module = own.get_base_layer()
    return found


def _owner(name: str, layers: dict[str, Any]) -> str | None:
    parts = name.split(".")
    starts = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    return next((start for start in starts if start in layers), None)
