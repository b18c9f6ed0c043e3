"""The weights of the policy as others get them: engines one at a time, and the folder of the run's model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plugrad.policy.adapter_folder import save_adapter
from plugrad.policy.adapter_layers import adapter_tensors, base_tensors, merged_weights, whole_tensor
from plugrad.policy.lora import Adapter
from plugrad.trainer.record.run_folder import MODEL, UNFINISHED

BASE = "base"
"""In the adapter's folder, where no other folder holds the base."""


@dataclass(frozen=True)
class PolicyWeights:
    """A policy's weights by their Transformers names, tied ones included; iterate as often as you like.

    An adapter is merged into them.
    """

    model: PreTrainedModel

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Gather each weight, and merge it, when its turn comes: the whole model never exists twice."""
        return merged_weights(self.model)


def whole_adapted(model: PreTrainedModel, adapter: Adapter) -> dict[str, Tensor]:
    """Return what `save_adapted` writes of a sharded model, on the CPU; every rank calls it."""
    needed: dict[str, Tensor] = dict(adapter_tensors(model))
    if adapter.base is None:
        needed |= dict(base_tensors(model))
    return {name: whole_tensor(weight).cpu() for name, weight in needed.items()}


def save_adapted(
    model: PreTrainedModel,
    adapter: Adapter,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    whole: dict[str, Tensor] | None = None,
) -> None:
    """Write the adapter, and the base beside it if no folder holds it. Pass `whole` where this rank has only a part."""
    tensors = adapter_tensors(model)
    base = adapter.base
    if base is None:
        # The folder gets its name once it is whole.
        base = str((path.with_name(MODEL) if path.name == UNFINISHED else path) / BASE)
        _save_base(model, path / BASE, dict(base_tensors(model)) if whole is None else whole)
        tokenizer.save_pretrained(path / BASE)
    save_adapter(model, path, tensors if whole is None else {name: whole[name] for name in tensors}, base)


def _save_base(model: PreTrainedModel, path: Path, tensors: dict[str, Tensor]) -> None:
    # A tied weight comes once, under its first name, as Transformers wants it.
    names = {id(weight): name for name, weight in reversed(list(base_tensors(model)))}
    own: dict[str, Any] = {name: tensors[name].detach() for name in names.values()}
    model.save_pretrained(path, state_dict=own)
