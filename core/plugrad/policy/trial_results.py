"""Trials of a model: the tokens that they use, and whether two results are the same up to rounding."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from plugrad.policy.lm_head import device_of

ROUNDING = {torch.float64: 1e-5, torch.float32: 1e-3}
"""Relative size of rounding, by dtype: what a batch of another shape may change in a deep model. Many models compute
norms and softmax in float32 whatever their dtype."""
ROUNDING_OF_16_BITS = 0.1


def agree(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    """Whether two results computed in `dtype` differ by no more than rounding on average. NaN never agrees."""
    if found.shape != wanted.shape:
        return False
    rounding = ROUNDING.get(dtype, ROUNDING_OF_16_BITS)
    return bool((found.double() - wanted.double()).abs().mean() <= rounding * wanted.double().abs().mean())


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the least precise dtype of the model's weights."""
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def trial_ids(model: nn.Module, length: int, first: int = 0) -> Int[Tensor, "tokens"]:
    """Return tokens of the model's vocabulary, from `first` on."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    vocab = getattr(text, "vocab_size", None) or length + first
    return torch.arange(first, first + length, device=device_of(model)) % vocab
