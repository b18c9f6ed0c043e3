"""How much memory training takes, estimated from the run file before the model loads, and the settings that take less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from plugrad.config.run_file import RunFile
from plugrad.config.tables.lora_table import LoraTable
from plugrad.host.bound_optimizer import bound_optimizer
from plugrad.host.optimizer_state import entries_of

GIB = 2**30
TRIED = 16
"""Tokens of the trial: so few that what grows with their square counts nothing."""
NF4 = 0.516
"""Bytes of a weight in 4 bits, with its share of the scales."""
SHARE = 0.9
"""Of the device's memory, that a run can use: libraries and the allocator take the rest."""


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


def estimate(run_file: RunFile, model: PreTrainedModel, *, has_reference: bool, num_shards: int = 1) -> MemoryEstimate:
    """Estimate what training takes on each device.

    Args:
        run_file: its `[model]`, `[optimizer]`, `[memory]` and `tokens_per_micro_batch`.
        model: what its configuration describes, without storage and without an adapter.
        has_reference: whether a loss needs the log-probs of a reference.
        num_shards: over how many ranks FSDP2 shards.
    """
    table, memory = run_file.model, run_file.memory
    stored = _dtype(run_file, model).itemsize
    layers = _linear_layers(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    packed = sum(layer.weight.numel() for layer in layers) if table.quantization else 0
    weights = (total - packed) * stored + packed * NF4
    trained, of_trained = (total, stored) if table.lora is None else (_adapter_size(table.lora, layers), 4)
    if table.lora is not None:
        weights += trained * of_trained
    elif has_reference and table.reference is None and not memory.offload_reference:
        weights += total * stored
    has_masters = run_file.optimizer.master_weights and of_trained < 4
    kept = trained * (_numbers_kept(run_file) * (4 if has_masters else of_trained) + 4 * has_masters)
    return MemoryEstimate(
        weights=weights / num_shards,
        gradients=trained * of_trained / num_shards,
        optimizer=0.0 if memory.offload_optimizer else kept / num_shards,
        activations=_activations(run_file, model),
    )


def tell(run_file: RunFile, model: PreTrainedModel, device_bytes: float, **facts: int) -> str:
    """Return a line that says what training takes and what the device has, and how it would fit if it does not."""
    found = estimate(run_file, model, **facts)  # type: ignore[arg-type]
    line = f"Memory, estimated: {found}; the device has {device_bytes / GIB:.0f}."
    if found.total <= SHARE * device_bytes:
        return line
    way = ways_to_fit(run_file, model, SHARE * device_bytes, **facts)
    if way is None:
        return f"{line} It does not fit, with no setting: shard it over several devices, or take a smaller model."
    return f"{line} It may not fit. It would with {way[0]}: {way[1]}."


def ways_to_fit(run_file: RunFile, model: PreTrainedModel, room: float, **facts: int) -> tuple[str, MemoryEstimate] | None:
    """Return the fewest settings, in the order in which one would try them, with which training takes at most `room` bytes.

    Returns:
        They, as a run file has them, with the estimate; None if all of them do not suffice.
    """
    asked: list[str] = []
    for name, changed in _savings(run_file):
        run_file = changed
        asked.append(name)
        found = estimate(run_file, model, **facts)  # type: ignore[arg-type]
        if found.total <= room:
            return ", ".join(asked), found
    return None


def _savings(run_file: RunFile) -> Iterator[tuple[str, RunFile]]:
    """Yield settings that take less memory, each with the run file that has it and all before."""
    model, memory = run_file.model, run_file.memory
    if not model.gradient_checkpointing:
        model = model.model_copy(update={"gradient_checkpointing": True})
        yield "model.gradient_checkpointing = true", (run_file := run_file.model_copy(update={"model": model}))
    tokens = run_file.tokens_per_micro_batch
    if tokens > 4096:
        yield "tokens_per_micro_batch = 4096", (run_file := run_file.model_copy(update={"tokens_per_micro_batch": 4096}))
    if model.lora is None and not memory.offload_optimizer:
        memory = memory.model_copy(update={"offload_optimizer": True})
        yield "memory.offload_optimizer = true", (run_file := run_file.model_copy(update={"memory": memory}))
    if model.lora is None:
        model = model.model_copy(update={"lora": LoraTable()})
        yield "[model.lora]", (run_file := run_file.model_copy(update={"model": model}))
    if model.dtype == "float32":
        model = model.model_copy(update={"dtype": "bfloat16"})
        yield 'model.dtype = "bfloat16"', (run_file := run_file.model_copy(update={"model": model}))
    if model.quantization is None and model.name is not None:
        model = model.model_copy(update={"quantization": "nf4"})
        yield 'model.quantization = "nf4"', run_file.model_copy(update={"model": model})


def _dtype(run_file: RunFile, model: PreTrainedModel) -> torch.dtype:
    name = run_file.model.dtype
    found = (model.config.dtype or model.dtype) if name == "auto" else getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def _linear_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """Return all linear layers but the head: those that get an adapter, and 4 bits."""
    head = model.get_output_embeddings()
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]


def _adapter_size(table: LoraTable, layers: list[nn.Linear]) -> int:
    """Return the number of an adapter's weights, if every linear layer gets one."""
    return (table.r or 16) * sum(layer.in_features + layer.out_features for layer in layers)


def _numbers_kept(run_file: RunFile) -> int:
    """Return how many numbers the optimizer keeps of each weight, as a trial finds; a quotient is rounded up."""
    bound = bound_optimizer(run_file.optimizer, run_file.folders)
    matrix = torch.zeros(64, 64, requires_grad=True)
    matrix.grad = torch.ones(64, 64)
    made = bound.create([matrix], run_file.optimizer.lr)
    made.step()
    size = sum(v.numel() * v.element_size() for _, v in entries_of(made) if isinstance(v, Tensor) and v.dim())
    return -(-size // (matrix.numel() * matrix.element_size()))


def _activations(run_file: RunFile, model: PreTrainedModel) -> float | None:
    """Return what a forward pass keeps for the backward pass, from a pass over a few tokens without storage."""
    if run_file.memory.offload_activations:
        return 0.0
    weights = {_storage(parameter) for parameter in model.parameters()}
    # The tensors are kept: storages that are freed give their place to others.
    seen: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            seen.setdefault(_storage(tensor), tensor)
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


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _computes_in(run_file: RunFile, model: PreTrainedModel) -> torch.dtype:
    name = run_file.model.compute_dtype
    return _dtype(run_file, model) if name is None else getattr(torch, name)
