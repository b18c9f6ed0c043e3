"""Keep tensors in the machine's memory while a GPU does not need them: the same values, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

FEWEST = 4096
"""Elements of a tensor that is worth moving."""


def offloaded_activations(model: nn.Module) -> AbstractContextManager[Any]:
    """Return a context whose forward passes keep what their backward passes need in the machine's memory.

    `torch.autograd.graph.save_on_cpu` would also copy the weights, once for each use.
    """
    # Whatever shards a model gives it other storages, and so they are asked for anew.
    own = {storage_of(parameter) for parameter in model.parameters()}

    def pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
        stays = tensor.numel() < FEWEST or tensor.layout != torch.strided or storage_of(tensor) in own
        return tensor.device, tensor if stays else _to_cpu(tensor)

    def unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, tensor = packed
        return tensor.to(device, non_blocking=tensor.is_pinned())

    return saved_tensors_hooks(pack, unpack)


def storage_of(tensor: Tensor) -> int:
    """Return the identity of what holds a tensor's values, as long as it lives: views share one."""
    # Not its address: those without memory, on the meta device, all have the address 0.
    return int(tensor.untyped_storage()._cdata)


def _to_cpu(tensor: Tensor) -> Tensor:
    pinned = torch.cuda.is_available() and not tensor.is_cpu
    # Waits until the copy is whole: the original may be overwritten.
    return torch.empty_like(tensor, device="cpu", pin_memory=pinned).copy_(tensor)


def step_with_state_on_cpu(optimizer: Optimizer, step: Callable[[Optimizer], object]) -> None:
    """Update one parameter after the other; before and after its update, what is kept of it is in the machine's memory.

    Numbers stay where they are, as tensors without a dimension: some optimizers want them on the CPU, others not.
    """
    groups = optimizer.param_groups
    places = [group["params"] for group in groups]
    try:
        for group, parameters in zip(groups, places, strict=True):
            for parameter in (p for p in parameters if p.grad is not None):
                group["params"], optimizer.param_groups = [parameter], [group]
                _move(optimizer, parameter, parameter.device)
                step(optimizer)
                _move(optimizer, parameter, torch.device("cpu"))
    finally:
        optimizer.param_groups = groups
        for group, parameters in zip(groups, places, strict=True):
            group["params"] = parameters


def _move(optimizer: Optimizer, parameter: Tensor, device: torch.device) -> None:
    kept = optimizer.state.get(parameter)
    if kept:
        for key, value in kept.items():
            if isinstance(value, Tensor) and value.dim():
                kept[key] = _to_cpu(value) if device.type == "cpu" else value.to(device, non_blocking=value.is_pinned())
