"""The trial of an optimizer on a tiny matrix and vector, before a model loads: it steps, and can be saved and sharded."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer, Rprop

from plugrad.errors import ContractError, PluginError
from plugrad.host.bound_optimizer import BoundOptimizer
from plugrad.host.optimizer_state import (
    entries_of,
    group_states,
    parts_of,
    set_group_states,
    set_states,
    state_of,
    unsaved,
)
from plugrad.host.process_state import StateKept
from plugrad.host.several_optimizers import SeveralOptimizers
from plugrad.host.time_limit import time_limit
from plugrad.registry.blame import Blamed, told
from plugrad.shown import shown

ROWS, COLUMNS, CUT = 64, 72, 24
"""Of the matrix: large enough for what some keep in blocks of 4,096 values."""
LR = 1e-2
UPDATES = 3


def try_optimizer(optimizer: BoundOptimizer, limit_s: float) -> None:
    """Let it make three updates, and two, be saved, and go on in a new instance with the third: both are the same.

    Raises:
        PluginError: it cannot be created or raises.
        ContractError: it changes the process, hangs, or keeps something that no checkpoint brings back.
    """
    owner = str(optimizer.component)
    remedy = "If it is only slow the first time, raise preflight_timeout_s."
    with _trying(owner), StateKept(owner), time_limit(limit_s, owner, remedy):
        device = _device(optimizer)
        whole = _parameters(device)
        made = _made(optimizer, whole)
        _update(made, whole, range(UPDATES))
        _check_can_be_saved(optimizer, made)
        resumed = _resumed(optimizer, device)
    if not all(map(torch.equal, whole, resumed)):
        raise ContractError(
            f"{owner} does not go on as it was: after two updates its state was put into a new instance, and the third "
            "update was another one. It keeps something outside of its state and groups, or draws random numbers. Keep "
            "all of it in `self.state[parameter]`."
        )


def check_shards(optimizer: BoundOptimizer) -> None:
    """Check that the optimizer can update parameters of which each process holds a part.

    Raises:
        PluginError: it cannot.
    """
    if why := why_not_sharded(optimizer):
        raise PluginError(
            f"{optimizer.component} cannot train a sharded policy: {why}. Train without sharding (distributed_type: "
            "MULTI_GPU), or choose another optimizer."
        )


def why_not_sharded(optimizer: BoundOptimizer) -> str:
    """Return why an update of the shards of a matrix would not be that of the matrix; empty where it is."""
    if optimizer.cls is Rprop:
        return "PyTorch computes it by writing to single places of a tensor, and its sharded tensors do not take that"
    with _trying(str(optimizer.component)):
        device = _device(optimizer)
        whole, shards = _parameters(device), _parameters(device)
        parts = [*shards[0].detach().split([CUT, ROWS - CUT]), shards[1].detach()]
        of_whole, of_parts = _made(optimizer, whole), _made(optimizer, [part.requires_grad_() for part in parts])
        if any(part.state for part in parts_of(of_whole)):
            return "it keeps a state from the moment it is made, and sharding replaces the parameters after that"
        _update(of_whole, whole, range(UPDATES))
        for number in range(UPDATES):
            gradients = _gradients(number, device)
            _step(of_parts, parts, [*gradients[0].split([CUT, ROWS - CUT]), gradients[1]])
    found, start = torch.cat(parts[:2]), _parameters(device)[0]
    if not torch.allclose(found - start, whole[0] - start, rtol=1e-3, atol=1e-7):
        return "its update of a part of a matrix depends on the whole matrix, of which each process holds a part"
    shapes = {value.shape for _, value in entries_of(of_whole) if isinstance(value, Tensor) and value.dim()}
    if shapes - {parameter.shape for parameter in whole}:
        return "what it keeps of a matrix has another shape, which is not sharded with it"
    return ""


def _trying(owner: str) -> Blamed:
    return Blamed(owner, lambda error: PluginError(f"{owner} cannot be used: a trial update raised {told(error)}"))


def _made(optimizer: BoundOptimizer, parameters: list[Tensor]) -> Optimizer:
    if optimizer.rest is None:
        return optimizer.create(parameters, LR)
    matrices, vectors = parameters[:-1], parameters[-1:]
    return SeveralOptimizers([optimizer.create(matrices, LR), optimizer.rest.create(vectors, LR)])


def _device(optimizer: BoundOptimizer) -> torch.device:
    """Return where to try it: the kernels of other packages may be for GPUs alone."""
    is_of_torch = optimizer.cls.__module__.partition(".")[0] == "torch"
    return torch.device("cpu" if is_of_torch or not torch.cuda.is_available() else "cuda")


def _parameters(device: torch.device) -> list[Tensor]:
    """Return a matrix and a vector, the same at every call."""
    numbers = torch.linspace(-1, 1, ROWS * COLUMNS, dtype=torch.float32)
    made = (numbers * 3).cos().view(ROWS, COLUMNS), numbers[:COLUMNS].clone()
    return [each.to(device).requires_grad_() for each in made]


def _gradients(number: int, device: torch.device) -> list[Tensor]:
    numbers = torch.linspace(-1, 1, ROWS * COLUMNS, dtype=torch.float32)
    matrix = ((numbers * (11 + number)).sin() * numbers.exp() * 0.1).view(ROWS, COLUMNS)
    return [matrix.to(device), matrix[number].to(device)]


def _update(optimizer: Optimizer, parameters: list[Tensor], numbers: range) -> None:
    for number in numbers:
        _step(optimizer, parameters, _gradients(number, parameters[0].device))


def _step(optimizer: Optimizer, parameters: list[Tensor], gradients: list[Tensor]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


def _check_can_be_saved(optimizer: BoundOptimizer, made: Optimizer) -> None:
    known = {id(p) for part in parts_of(made) for group in part.param_groups for p in group["params"]}
    if any(id(key) not in known for part in parts_of(made) for key in part.state):
        raise ContractError(
            f"{optimizer.component} keeps state that belongs to no parameter, and checkpoints hold what belongs to one. "
            "Keep it in `self.state[parameter]` or in a group."
        )
    for name, value in entries_of(made):
        if kind := unsaved(value):
            raise ContractError(
                f"{optimizer.component} keeps {shown(name)} as {kind}, and checkpoints hold tensors, numbers and text. "
                "Choose another optimizer, or keep it as one of these."
            )


def _resumed(optimizer: BoundOptimizer, device: torch.device) -> list[Tensor]:
    """Return the parameters after the same updates, with a stop before the last."""
    parameters = _parameters(device)
    before, after = _made(optimizer, parameters), _made(optimizer, parameters)
    _update(before, parameters, range(UPDATES - 1))
    states = {p: {k: v.clone() if isinstance(v, Tensor) else v for k, v in state_of(before, p).items()} for p in parameters}
    set_states(after, {parameter: kept for parameter, kept in states.items() if kept})
    set_group_states(after, group_states(before))
    _update(after, parameters, range(UPDATES - 1, UPDATES))
    return parameters
