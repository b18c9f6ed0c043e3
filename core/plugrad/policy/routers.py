"""What is known of a mixture of experts' routers: whether their auxiliary loss is asked for, and how even their load is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef", "aux_loss_alpha", "moe_loss_weight", "router_z_loss_coef")
"""Names of its weight in the configurations of Transformers."""


def ignored_router_loss(model: nn.Module) -> str:
    """Return the keys of the model's configuration that ask for an auxiliary loss of its routers; empty if none does."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if not getattr(text, "output_router_logits", False):
        return ""
    nested = getattr(text, "ffn_config", None) or {}
    inside = nested if isinstance(nested, Mapping) else vars(nested)
    found = {name: getattr(text, name, inside.get(name)) for name in COEFFICIENTS}
    return ", ".join(f"{name} = {value}" for name, value in found.items() if value)


def expert_counts(
    router_logits: Sequence[Float[Tensor, "tokens experts"]], counts: Bool[Tensor, "..."], top_k: int
) -> Float[Tensor, "layers experts"]:
    """Return how many of the tokens that count each layer's router gives to each of its experts."""
    chosen = [logits.detach().reshape(-1, logits.shape[-1]).topk(top_k, dim=-1).indices for logits in router_logits]
    weights = counts.reshape(-1, 1).double()
    return torch.stack(
        [
            weights.new_zeros(logits.shape[-1]).scatter_add_(0, experts.flatten(), weights.expand_as(experts).flatten())
            for logits, experts in zip(router_logits, chosen, strict=True)
        ]
    )


def busiest_expert(counts: Float[Tensor, "layers experts"]) -> float:
    """Return the busiest expert's tokens over an even share, as a mean over layers: from 1 to the number of experts / k."""
    return float((counts.amax(dim=1) / counts.mean(dim=1).clamp(min=1e-300)).mean())
