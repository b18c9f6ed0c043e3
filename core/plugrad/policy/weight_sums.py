"""Sums by which weights that stay fixed are known again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plugrad.policy.adapter_layers import INITIAL, adapter_tensors, base_tensors


def sum_of_weights(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a model's weights, with their names, dtypes and shapes."""
    total = sha256()
    for name, weight in sorted(weights.items()):
        total.update(f"{name} {weight.dtype} {list(weight.shape)}\n".encode())
        if weight.numel():
            # NumPy has no bfloat16.
            total.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


@dataclass
class SumsBesideAdapter:
    """The sums of what an adapter is trained beside, computed once: before the model is sharded, or when they are needed."""

    model: PreTrainedModel
    _found: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> dict[str, str]:
        """Return the sums by what they are of."""
        if not self._found:
            self._found["the base of the adapter"] = sum_of_weights(dict(base_tensors(self.model)))
            if initial := adapter_tensors(self.model, INITIAL):
                self._found["the adapter that the run began with"] = sum_of_weights(initial)
        return self._found
