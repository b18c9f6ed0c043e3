"""Float32 copies of weights of 16 bits, for any optimizer: it updates the copies, and the weights are the copies rounded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

MASTER = "master"
"""Among what is kept of a parameter, and so in checkpoints: its copy."""


def is_rounded(parameter: Tensor) -> bool:
    """Return whether a weight is stored in 16 bits, in which small updates are rounded away."""
    return parameter.is_floating_point() and torch.finfo(parameter.dtype).bits <= 16


def step_with_masters(optimizer: Optimizer) -> None:
    """Update the float32 copies of weights of 16 bits, and everything else as ever.

    For the time of the update, a copy takes the place of its weight in the optimizer's groups and in its state, with the
    gradient in float32: what the optimizer keeps of it is that of a float32 weight.
    """
    places = [group["params"] for group in optimizer.param_groups]
    masters = {p: _taken_out(optimizer, p) for params in places for p in params if is_rounded(p) and p.grad is not None}
    for group, params in zip(optimizer.param_groups, places, strict=True):
        group["params"] = [masters.get(p, p) for p in params]
    try:
        optimizer.step()
    finally:
        for group, params in zip(optimizer.param_groups, places, strict=True):
            group["params"] = params
        for parameter, master in masters.items():
            _put_back(optimizer, parameter, master)


@torch.no_grad()
def _taken_out(optimizer: Optimizer, parameter: Tensor) -> Tensor:
    """Return the copy, which has the parameter's gradient, and its state in the optimizer."""
    kept: dict[str, Any] = dict(optimizer.state.pop(parameter, {}))
    master = kept.pop(MASTER, None)
    if master is None:
        master = parameter.detach().float()
        # Some optimizers make their state at once, for the weight as it is stored.
        kept = {key: v.float() if isinstance(v, Tensor) and v.dim() and is_rounded(v) else v for key, v in kept.items()}
    if kept:
        optimizer.state[master] = kept
    assert parameter.grad is not None
    master.grad = parameter.grad.float()
    return master  # type: ignore[no-any-return]


@torch.no_grad()
def _put_back(optimizer: Optimizer, parameter: Tensor, master: Tensor) -> None:
    master.grad = None
    parameter.copy_(master)
    optimizer.state[parameter] = {**optimizer.state.pop(master, {}), MASTER: master}
