"""How much memory training takes, estimated from the run file before the model loads, and the settings that take less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from plugrad.config.run_file import RunFile
from plugrad.config.tables.lora_table import LoraTable
from plugrad.host.bound_optimizer import BoundOptimizer
from plugrad.host.optimizer_class import of_torch_alone
from plugrad.host.optimizer_state import entries_of
from plugrad.policy.offloading import storage_of

GIB = 2**30
TRIED = 16
"""Tokens of the trial: so few that what grows with their square counts nothing."""
NF4 = 0.516
"""Bytes of a weight in 4 bits, with its share of the scales."""
ADAPTERS = MASTER = 4
"""Bytes of an adapter's weight, and of a master."""
REFERENCE = "the reference"
LR = 1e-3
SHARE = 0.9
"""Of the device's memory, that a run can use: libraries and the allocator take the rest."""


@dataclass(frozen=True)
class RunModels:
    """The models of a run, as their configurations describe them: without storage, and without an adapter."""

    policy: PreTrainedModel
    optimizer: BoundOptimizer
    has_reference: bool = False
    """Whether a component needs the log-probs of a reference."""
    frozen: Mapping[str, tuple[PreTrainedModel, str]] = field(default_factory=dict)
    """The reference, where it is another model than the policy, and the teachers, each with its dtype in the run file."""
    critic: PreTrainedModel | None = None
    """Where it has a model of its own."""
    num_shards: int = 1
    """Over how many ranks FSDP2 shards what is trained."""

    @cached_property
    def numbers_kept(self) -> int:
        """How many numbers the optimizer keeps of each weight, as a trial finds; a quotient is rounded up."""
        matrix = torch.zeros(64, 64, requires_grad=True)
        matrix.grad = torch.ones(64, 64)
        made = self.optimizer.create([matrix], LR)
        made.step()
        size = sum(v.numel() * v.element_size() for _, v in entries_of(made) if isinstance(v, Tensor) and v.dim())
        return -(-size // (matrix.numel() * matrix.element_size()))


@dataclass(frozen=True)
class MemoryEstimate:
    """What training holds on one device, in bytes."""

    weights: float
    """Of the policy, and of frozen models beside it that stay on the device."""
    gradients: float
    optimizer: float
    activations: float | None
    """Of one micro-batch; None if the model cannot tell without weights."""

    @property
    def total(self) -> float:
        """Everything at once."""
        return self.weights + self.gradients + self.optimizer + (self.activations or 0.0)

    def __str__(self) -> str:
        """Name the parts in GiB."""
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        named = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
        if self.activations is None:
            return f"{named} GiB, activations unknown"
        return f"{named}, activations about {self.activations / GIB:.1f} GiB"


def estimate(run_file: RunFile, models: RunModels) -> MemoryEstimate:
    """Estimate what training takes on each device."""
    trained, weights = _policy(run_file, models.policy)
    passes = [_activations(run_file, models.policy)]
    if models.critic is not None and run_file.critic is not None:
        size = _dtype(run_file.critic.dtype or run_file.model.dtype, models.critic).itemsize
        trained.append((_num_weights(models.critic), size))
        weights += trained[-1][0] * size
        passes.append(_activations(run_file, models.critic))
    gradients = sum(number * size for number, size in trained)
    kept = sum(number * _kept(run_file, models, size) for number, size in trained)
    return MemoryEstimate(
        weights=weights / models.num_shards + _beside(run_file, models),
        gradients=gradients / models.num_shards,
        optimizer=0.0 if run_file.memory.offload_optimizer else kept / models.num_shards,
        activations=None if None in passes else sum(size for size in passes if size is not None),
    )


def _policy(run_file: RunFile, model: PreTrainedModel) -> tuple[list[tuple[int, int]], float]:
    """Return how many of the policy's weights are trained, each of how many bytes, and the bytes of all of them."""
    table, layers, total = run_file.model, _linear_layers(model), _num_weights(model)
    stored = _dtype(table.dtype, model).itemsize
    packed = sum(layer.weight.numel() for layer in layers) if table.quantization else 0
    weights = (total - packed) * stored + packed * NF4
    if table.lora is None:
        return [(total, stored)], weights
    adapter = _adapter_size(table.lora, layers)
    return [(adapter, ADAPTERS)], weights + adapter * ADAPTERS


def _kept(run_file: RunFile, models: RunModels, size: int) -> int:
    """Return the bytes that the optimizer keeps of a weight of so many bytes, with the master."""
    has_master = run_file.optimizer.master_weights and size < MASTER
    return models.numbers_kept * (MASTER if has_master else size) + MASTER * has_master


def _beside(run_file: RunFile, models: RunModels) -> float:
    """Return the bytes of frozen models that stay on the device. They are whole on every rank."""
    table, memory = run_file.model, run_file.memory
    # Beside a sharded policy they are rounded as it is.
    most = 2 if models.num_shards > 1 and table.compute_dtype == "bfloat16" else 8

    def bytes_of(model: PreTrainedModel, dtype: str) -> int:
        return _num_weights(model) * min(most, _dtype(dtype, model).itemsize)

    sizes = {name: bytes_of(model, dtype) for name, (model, dtype) in models.frozen.items()}
    if models.has_reference and table.reference is None and table.lora is None:
        sizes[REFERENCE] = bytes_of(models.policy, table.dtype)
    if memory.offload_reference:
        sizes.pop(REFERENCE, None)
    return sum(sizes.values())


def tell(run_file: RunFile, models: RunModels, device_bytes: float) -> tuple[str, bool]:
    """Return a line that says what training takes and what the device has, and how it would fit; and whether it fits."""
    found = estimate(run_file, models)
    line = f"Memory, estimated: {found}; the device has {device_bytes / GIB:.3g}."
    if found.total <= SHARE * device_bytes:
        return line, True
    way = ways_to_fit(run_file, models, SHARE * device_bytes)
    if way is None:
        return f"{line} It does not fit, with no setting: shard it over several devices, or take a smaller model.", False
    return f"{line} It may not fit. It would with {way[0]}: {way[1]}.", False


def ways_to_fit(run_file: RunFile, models: RunModels, room: float) -> tuple[str, MemoryEstimate] | None:
    """Return the fewest settings, in the order in which one would try them, with which training takes at most `room` bytes.

    Returns:
        They, as a run file has them, with the estimate; None if all of them do not suffice.
    """
    asked: list[str] = []
    for name, changed in _savings(run_file, models):
        run_file = changed
        asked.append(name)
        found = estimate(run_file, models)
        if found.total <= room:
            return ", ".join(asked), found
    return None


def _savings(run_file: RunFile, models: RunModels) -> Iterator[tuple[str, RunFile]]:
    """Yield settings that take less memory and are not refused here, each with the run file that has it and all before."""
    model, memory, is_sharded = run_file.model, run_file.memory, models.num_shards > 1
    if not model.gradient_checkpointing:
        model = model.model_copy(update={"gradient_checkpointing": True})
        yield "model.gradient_checkpointing = true", (run_file := run_file.model_copy(update={"model": model}))
    tokens = run_file.tokens_per_micro_batch
    if tokens > 4096:
        yield "tokens_per_micro_batch = 4096", (run_file := run_file.model_copy(update={"tokens_per_micro_batch": 4096}))
    if models.has_reference and not memory.offload_reference and (model.lora is None or model.reference is not None):
        memory = memory.model_copy(update={"offload_reference": True})
        yield "memory.offload_reference = true", (run_file := run_file.model_copy(update={"memory": memory}))
    moves = model.lora is None and not is_sharded and of_torch_alone(models.optimizer.cls)
    if moves and not memory.offload_optimizer:
        memory = memory.model_copy(update={"offload_optimizer": True})
        yield "memory.offload_optimizer = true", (run_file := run_file.model_copy(update={"memory": memory}))
    if model.lora is None:
        model = model.model_copy(update={"lora": LoraTable()})
        yield "[model.lora]", (run_file := run_file.model_copy(update={"model": model}))
    if model.dtype == "float32":
        model = model.model_copy(update={"dtype": "bfloat16"})
        yield 'model.dtype = "bfloat16"', (run_file := run_file.model_copy(update={"model": model}))
    takes_4_bits = model.name is not None and not model.resize_embeddings and not is_sharded
    if model.quantization is None and takes_4_bits and not run_file.rollout.engine_kind.has_own_weights:
        model = model.model_copy(update={"quantization": "nf4"})
        yield 'model.quantization = "nf4"', run_file.model_copy(update={"model": model})


def _dtype(name: str, model: PreTrainedModel) -> torch.dtype:
    found = (model.config.dtype or model.dtype) if name == "auto" else getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def _num_weights(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _linear_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """Return all linear layers but the head: those that get an adapter, and 4 bits."""
    head = model.get_output_embeddings()
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]


def _adapter_size(table: LoraTable, layers: list[nn.Linear]) -> int:
    """Return the number of an adapter's weights, if every linear layer gets one."""
    return (table.r or 16) * sum(layer.in_features + layer.out_features for layer in layers)


def _activations(run_file: RunFile, model: PreTrainedModel) -> float | None:
    """Return what a forward pass keeps for the backward pass, from a pass over a few tokens without storage."""
    if run_file.memory.offload_activations:
        return 0.0
    weights = {storage_of(parameter) for parameter in model.parameters()}
    # The tensors are kept: storages that are freed give their place to others.
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if storage_of(tensor) not in weights:
            seen.setdefault(storage_of(tensor), tensor)
        return tensor

    ids = torch.zeros(1, TRIED, dtype=torch.long, device="meta")
    # One that looks at the values of its mask needs storage; this one is taken as it is.
    mask = torch.ones(1, 1, TRIED, TRIED, dtype=torch.bool, device="meta")
    try:
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            found = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)[0]
    except Exception:
        # Not every model runs without storage.
        return None
    scale = _computes_in(run_file, model).itemsize / found.element_size()
    kept = sum(tensor.untyped_storage().nbytes() for tensor in seen.values()) * scale
    if run_file.model.gradient_checkpointing:
        # The inputs of all layers, and everything of the one that is computed again.
        number = model.config.get_text_config().num_hidden_layers
        kept = kept / number + found.numel() * found.element_size() * scale * number
    return float(kept * run_file.tokens_per_micro_batch / TRIED)


def _computes_in(run_file: RunFile, model: PreTrainedModel) -> torch.dtype:
    name = run_file.model.compute_dtype
    return _dtype(run_file.model.dtype, model) if name is None else getattr(torch, name)
