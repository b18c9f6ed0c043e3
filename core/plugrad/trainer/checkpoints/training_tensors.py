"""The tensors of a learner in PyTorch's distributed checkpoints: any number of ranks reads what any other wrote."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from plugrad.host.optimizer_state import set_states, state_of
from plugrad.policy.adapter_layers import frozen_tensors
from plugrad.trainer.update.learner import Learner

POLICY, OPTIMIZER = "policy", "optimizer"

# One process needs none.
warnings.filterwarnings("ignore", "torch.distributed is disabled, unavailable or uninitialized")


def policy_tensors(learner: Learner) -> dict[str, Tensor]:
    """Return the weights of the policy, its critic and its losses by name; a tied weight comes once. Not copies.

    Where an adapter is trained, the rest of the policy's model is not among them.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set() if learner.adapter is None else {id(weight) for _, weight in frozen_tensors(learner.model)}
    # A quantised base makes more tensors up when it is asked for its state.
    own = {id(tensor) for tensor in (*learner.own.parameters(), *learner.own.buffers())}
    for name, weight in learner.own.state_dict(keep_vars=True).items():
        if isinstance(weight, Tensor) and id(weight) in own and id(weight) not in seen:
            seen.add(id(weight))
            found[name] = weight.detach()
    return found


def optimizer_tensors(learner: Learner) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Return the optimizer's tensors by the name of their parameter, and what else it keeps for each parameter.

    A parameter that never had a gradient has neither.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for name, parameter in learner.own.named_parameters():
        for key, value in state_of(learner.optimizer, parameter).items():
            if isinstance(value, Tensor) and value.dim():
                tensors[f"{name}.{key}"] = value
            else:
                numbers.setdefault(name, {})[key] = value.clone() if isinstance(value, Tensor) else value
    return tensors, numbers


def save_tensors(tensors: Mapping[str, Tensor], folder: Path, group: ProcessGroup | None) -> None:
    """Write tensors as safetensors; every rank of `group` calls it, and writes its part."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)


def load_policy(learner: Learner, folder: Path, group: ProcessGroup | None) -> None:
    """Read the weights into the policy.

    Raises:
        KeyError: it has a weight that the checkpoint lacks.
    """
    _load(policy_tensors(learner), folder, group)


def load_optimizer(
    learner: Learner, folder: Path, numbers: Mapping[str, Mapping[str, Any]], group: ProcessGroup | None
) -> None:
    """Read the state of every parameter that has one into the optimizer."""
    # PyTorch's own `set_optimizer_state_dict` wants a state for every parameter.
    stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata if folder.is_dir() else {}
    parameters = dict(learner.own.named_parameters())
    tensors: dict[str, Tensor] = {}
    for key, metadata in stored.items():
        assert isinstance(metadata, TensorStorageMetadata)
        tensors[key] = _like(parameters[key.rpartition(".")[0]], metadata)
        if learner.memory.offload_optimizer:
            tensors[key] = tensors[key].cpu()
    if tensors:
        _load(tensors, folder, group)
    states: dict[Tensor, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        name, _, field = key.rpartition(".")
        states.setdefault(parameters[name], {})[field] = tensor
    for name, fields in numbers.items():
        states.setdefault(parameters[name], {}).update(fields)
    set_states(learner.optimizer, states)


def _like(parameter: Tensor, metadata: TensorStorageMetadata) -> Tensor:
    dtype = metadata.properties.dtype
    if metadata.size == parameter.shape:
        # Sharded as the parameter is.
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
    return torch.zeros(metadata.size, dtype=dtype, device=parameter.device)


def _load(tensors: dict[str, Tensor], folder: Path, group: ProcessGroup | None) -> None:
    reader = HuggingFaceStorageReader(str(folder))
    with torch.no_grad():
        load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
