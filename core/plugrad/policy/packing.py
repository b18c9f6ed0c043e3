"""Pack several sequences into one row without padding, for models whose attention keeps them apart."""

from __future__ import annotations

import logging
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from plugrad.policy.lm_head import attention, backbone, device_of, evaluating

logger = logging.getLogger("plugrad")

LIKE_FLASH = "plugrad_sequences_by_position"
LENGTHS = (5, 3)
"""Lengths of the trial sequences."""


def attention_by_position(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    position_ids: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend like Transformers' flash attention: without a mask, and separately for each restart of the positions.

    A model that builds masks from its positions but does not pass them on to its attention is right with masks and wrong
    with flash attention.
    """
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(group, dim=1) for tensor in (key, value))
    positions = torch.arange(query.shape[2], device=query.device).unsqueeze(0) if position_ids is None else position_ids
    sequence = (positions == positions.min()).cumsum(dim=-1)
    together = (sequence.unsqueeze(2) == sequence.unsqueeze(1)).tril().unsqueeze(1)
    return scaled_dot_product_attention(query, key, value, together, scale=scaling).transpose(1, 2).contiguous(), None


AttentionInterface.register(LIKE_FLASH, attention_by_position)


def packed_inputs(input_ids: Int[Tensor, "batch seq"], attention_mask: Bool[Tensor, "batch seq"]) -> dict[str, Any]:
    """Return a model's inputs: the attended tokens in one row, with positions that restart at each sequence."""
    positions = (attention_mask.long().cumsum(dim=1) - 1)[attention_mask]
    return {
        "input_ids": input_ids[attention_mask].unsqueeze(0),
        "position_ids": positions.unsqueeze(0),
        "attention_mask": None,
        "use_cache": False,
    }


def can_pack(model: nn.Module) -> bool:
    """Whether the model computes the same for packed sequences as for padded ones, and as fast.

    This takes flash or flex attention, which skips tokens of other sequences. Any other layer that mixes tokens (a
    convolution, a state-space layer, linear attention) shows in a trial with two packed sequences.
    """
    own = getattr(getattr(model, "config", None), "_attn_implementation", None) or ""
    if "flash" not in own and own != "flex_attention":
        return False
    with torch.no_grad(), evaluating(model), attention(model, "eager" if own == "flex_attention" else LIKE_FLASH):
        packs = keeps_sequences_apart(model)
    if not packs:
        logger.info("%s mixes the tokens of packed sequences, so micro-batches are padded.", type(model).__name__)
    return packs


def keeps_sequences_apart(model: nn.Module) -> bool:
    """Whether packed sequences give the same results as padded ones, and the second does not depend on the first."""
    rows = torch.arange(LENGTHS[0] * 2, device=device_of(model)).view(2, -1)
    mask = torch.arange(LENGTHS[0], device=rows.device) < torch.tensor(LENGTHS, device=rows.device).unsqueeze(1)
    other = torch.stack([rows[0].flip(0), rows[1]])
    layers = backbone(model)
    padded = layers(input_ids=rows, attention_mask=mask.long(), use_cache=False)[0][mask]
    try:
        packed, beside_other = (layers(**packed_inputs(ids, mask))[0][0] for ids in (rows, other))
    except Exception:
        # A model without positions may raise anything.
        return False
    second = slice(LENGTHS[0], None)
    return _same(packed, padded) and _same(packed[second], beside_other[second])


def _same(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape:
        return False
    rounding = 16 * torch.finfo(found.dtype).eps * float(wanted.abs().max())
    return torch.allclose(found.double(), wanted.double(), rtol=0, atol=rounding)
