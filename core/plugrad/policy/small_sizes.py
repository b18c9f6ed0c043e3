"""The sizes that `[model.from_scratch]` takes where the run file gives none: small ones that fit together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
"""Defaults of `[model.from_scratch]`: about half a million parameters."""

LEFT_OUT = object()
"""Instead of a default of `SMALL`: this model derives the value, or names it otherwise."""
EOS_ID = 1
"""Of the character tokenizer, for configurations that demand a token that starts a text."""

_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
_ROUTED = {**_EXPERTS, "n_routed_experts": 8, "first_k_dense_replace": 1}
_LATENT = {
    "head_dim": LEFT_OUT,
    "q_lora_rank": 64,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
}
"""Multi-head latent attention has three head dimensions of its own."""

SMALL_OF: Mapping[str, Mapping[str, Any]] = {
    "axk1": {**_LATENT, **_ROUTED, "n_group": 2, "topk_group": 1},
    "codegen": {"rotary_dim": 16},
    "cwm": {"bos_token_id": EOS_ID},
    "deepseek_v2": {**_LATENT, **_ROUTED},
    "deepseek_v3": {**_LATENT, **_ROUTED, "n_group": 2, "topk_group": 1},
    "dots1": {**_ROUTED, "n_shared_experts": 1},
    "falcon": {"head_dim": LEFT_OUT},
    "gemma3n_text": {
        "hidden_size_per_layer_input": 32,
        "num_kv_shared_layers": 0,
        "laurel_rank": 16,
        "altup_num_inputs": 2,
    },
    "gemma4_text": {"hidden_size_per_layer_input": 32, "global_head_dim": 32},
    "gemma4_unified_text": {"global_head_dim": 32},
    "gptj": {"rotary_dim": 16},
    "lfm2_moe": {**_EXPERTS, "num_dense_layers": 1, "num_experts": 8},
    "mamba2": {"num_attention_heads": LEFT_OUT, "num_heads": 8},
    "modernbert-decoder": {"bos_token_id": EOS_ID, "cls_token_id": EOS_ID, "sep_token_id": EOS_ID},
    "zamba2": {"mamba_d_state": 16, "n_mamba_heads": 4, "adapter_rank": 16},
}
"""What some models need beside `SMALL` or instead of it, by `model_type`."""

LAYERS_OF: Mapping[str, tuple[str, list[str]]] = {
    "gemma3n_text": ("layer_types", ["sliding_attention", "full_attention"]),
    "lfm2_moe": ("layer_types", ["conv", "full_attention"]),
    "zamba2": ("layers_block_type", ["mamba", "hybrid"]),
}
"""The kinds of layers that alternate, and the field that lists them: these models have no default for a few layers."""

SIZE = re.compile(r"(size|dim|rank|heads|layers|experts|groups?|per_tok|_state|_inner|_conv)$")


def small_fields(model_type: str, given: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return the fields of a small model: those given, and defaults for the others.

    Args:
        model_type: the model's.
        given: the fields of the run file.
        known: the names of all its fields.
    """
    own = SMALL_OF.get(model_type, {})
    fields = {name: value for name, value in {**SMALL, **own}.items() if name in known or name in own} | dict(given)
    fields = {name: value for name, value in fields.items() if value is not LEFT_OUT}
    field, kinds = LAYERS_OF.get(model_type, ("", []))
    layers = fields.get("num_hidden_layers")
    if field and isinstance(layers, int):
        fields.setdefault(field, [kinds[layer % len(kinds)] for layer in range(layers)])
    return fields


def sizes_to_give(fields: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return the sizes of a configuration that neither the run file nor `SMALL` gives, as they are written in a run file."""
    sizes = {
        name: value
        for name, value in fields.items()
        if type(value) is int and SIZE.search(name) and name not in {*given, *SMALL, "vocab_size"}
    }
    return ", ".join(f"{name} = {value}" for name, value in sizes.items())
