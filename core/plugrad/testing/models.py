"""Small, real Transformers models for tests. They are built in memory; nothing is downloaded."""

from __future__ import annotations

import string
from typing import Any

from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from plugrad.config.tables.model_table import ModelTable
from plugrad.host.trial import random_state_of
from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.policy.loading import load_model

TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a character tokenizer for printable ASCII."""
    return character_tokenizer([string.printable])


def tiny_model(seed: int = 0, *, model_type: str = "qwen3", dtype: str = "float32", **fields: Any) -> PreTrainedModel:
    """Return a causal LM with random weights that fits `tiny_tokenizer`. `fields` go into its configuration."""
    plain = AutoConfig.for_model(model_type)
    known = {name: value for name, value in TINY.items() if hasattr(plain, name)}
    table = ModelTable.model_validate({"from_scratch": {"model_type": model_type, **known, **fields}, "dtype": dtype})
    with random_state_of(seed):
        return load_model(table, [string.printable]).model
