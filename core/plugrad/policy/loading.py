"""Load models and tokenizers, or build them from scratch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from plugrad.config.tables.model_table import FrozenModelTable, ModelTable
from plugrad.errors import ModelError, did_you_mean
from plugrad.policy.character_tokenizer import character_tokenizer

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


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


@dataclass(frozen=True)
class LoadedModel:
    """A model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_model(table: ModelTable, texts: Iterable[str]) -> LoadedModel:
    """Load the policy, or build it from scratch with a character tokenizer made from `texts`.

    Dropout is off: the policy in training must be the policy that sampled.

    Raises:
        ModelError: the model does not exist, or its configuration or tokenizer cannot be used.
    """
    if table.from_scratch is not None:
        loaded = _build(table.from_scratch, texts, table)
    else:
        assert table.name is not None
        loaded = LoadedModel(_pretrained(table.name, table.dtype, table.attn_implementation), _tokenizer(table.name))
    # Engines rebuild the model from its configuration, which lacks the architecture if it was built here.
    loaded.model.config.architectures = [type(loaded.model).__name__]
    if table.gradient_checkpointing:
        _checkpoint_activations(loaded.model)
    return loaded


def load_tokenizer(table: ModelTable, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Load the policy's tokenizer, or make the character tokenizer of `texts`, without the model.

    Raises:
        ModelError: it cannot be used.
    """
    return character_tokenizer(texts) if table.name is None else _tokenizer(table.name)


def vocabulary_size(table: ModelTable, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the size of the model's vocabulary, as its configuration states it, or at least the tokenizer's."""
    stated: object = (table.from_scratch or {}).get("vocab_size")
    if table.name is not None:
        # What is wrong with the configuration is said where the model is loaded.
        with suppress(Exception):
            stated = AutoConfig.from_pretrained(table.name, trust_remote_code=False).get_text_config().vocab_size
    return max(len(tokenizer), stated if isinstance(stated, int) else 0)


def load_frozen(table: FrozenModelTable, policy: ModelTable, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Load a frozen reference or teacher model.

    Raises:
        ModelError: the model does not exist, or its vocabulary is not the policy's.
    """
    model = _pretrained(table.name, table.dtype or policy.dtype, policy.attn_implementation)
    theirs = _tokenizer(table.name)
    if theirs.get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"the tokenizer of {table.name!r} ({len(theirs)} tokens) is not the policy's ({len(tokenizer)} tokens), so "
            "it cannot score the sampled tokens. Choose a model of the same family."
        )
    return frozen(model)


def frozen(model: PreTrainedModel) -> PreTrainedModel:
    """Set evaluation mode, turn off gradients and return the model."""
    return cast(PreTrainedModel, model.requires_grad_(False).eval())


def with_small_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `[model.from_scratch]` with the defaults that its model type supports.

    Raises:
        ModelError: the model type or a field is unknown.
    """
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        hint = did_you_mean(str(model_type), CONFIG_MAPPING)
        raise ModelError(
            f"[model.from_scratch] model_type is {model_type!r}, but Transformers has no such model.{hint} "
            'For example "qwen3", "llama" or "gpt2".'
        )
    plain = AutoConfig.for_model(model_type)
    for name in fields.keys() - {"model_type"}:
        if not hasattr(plain, name):
            raise ModelError(
                f"[model.from_scratch] {model_type} has no field {name!r}.{did_you_mean(name, plain.to_dict())} "
                f"See the parameters of {type(plain).__name__} in Transformers."
            )
    return {name: value for name, value in SMALL.items() if hasattr(plain, name)} | dict(fields)


def context_length(model: PreTrainedModel) -> int | None:
    """Return the context length in tokens, or None if the configuration does not state it."""
    return getattr(model.config, "max_position_embeddings", None)


def _checkpoint_activations(model: PreTrainedModel) -> None:
    # Transformers 5 renames the method, and 6 drops the old name.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _build(fields: Mapping[str, Any], texts: Iterable[str], table: ModelTable) -> LoadedModel:
    tokenizer = character_tokenizer(texts)
    values = with_small_defaults(fields)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    try:
        config = AutoConfig.for_model(values.pop("model_type"), **{"vocab_size": len(tokenizer), **special, **values})
    except Exception as error:
        raise ModelError(f"[model.from_scratch] cannot be built: {type(error).__name__}: {_first_lines(error)}") from error
    if config.vocab_size < len(tokenizer):
        raise ModelError(
            f"[model.from_scratch] vocab_size is {config.vocab_size}, but the environment's texts have {len(tokenizer)} "
            "tokens: raise it or leave it out."
        )
    _without_dropout(config)
    try:
        model = AutoModelForCausalLM.from_config(
            config, dtype=_dtype(table.dtype), attn_implementation=table.attn_implementation
        )
    except Exception as error:
        # Incompatible fields raise whatever the model's code happens to raise.
        raise ModelError(f"[model.from_scratch] cannot be built: {type(error).__name__}: {_first_lines(error)}") from error
    return LoadedModel(model, tokenizer)


def _pretrained(name: str, dtype: str, attn_implementation: str | None) -> PreTrainedModel:
    _check_folder(name)
    try:
        config = AutoConfig.from_pretrained(name)
        _without_dropout(config)
        model = AutoModelForCausalLM.from_pretrained(
            name, config=config, dtype=_dtype(dtype), attn_implementation=attn_implementation
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"the model {name!r} cannot be loaded: {_first_lines(error)}") from error
    return cast(PreTrainedModel, model)


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    # Transformers invents an empty tokenizer for a folder without one.
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in TOKENIZER_FILES):
        raise ModelError(
            f"the folder {name!r} holds a model without a tokenizer. Add one with tokenizer.save_pretrained(folder)."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(
            f"the tokenizer of {name!r} cannot be loaded: {_first_lines(error)} Save one next to the model with "
            "tokenizer.save_pretrained(folder)."
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no end-of-sequence token, so completions cannot end. Set its eos_token."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return cast(PreTrainedTokenizerBase, tokenizer)


def _check_folder(name: str) -> None:
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"the folder {name!r} holds no model: it has no config.json. Give a folder with one.")
    if (folder.is_absolute() or name.startswith(".")) and not folder.is_dir():
        raise ModelError(f"there is no model folder {name!r}. Check the path, or give a hub id.")


def _without_dropout(config: Any) -> None:
    for name, value in vars(config).items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("_pdrop")):
            setattr(config, name, 0.0)


def _dtype(name: str) -> torch.dtype | str:
    return name if name == "auto" else cast(torch.dtype, getattr(torch, name))


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split("\n")[:2])


def quiet_transformers() -> None:
    """Silence Transformers' progress bars and advice, but not its warnings."""
    transformers_logging.set_verbosity_warning()
    transformers_logging.disable_progress_bar()
