"""Build a new model from `[model.from_scratch]`, with a character tokenizer made from the environment's texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from plugrad.errors import ModelError, did_you_mean
from plugrad.policy.character_tokenizer import character_tokenizer
from plugrad.policy.config_values import check_values
from plugrad.policy.described_model import without_storage
from plugrad.policy.experts import run_experts_in_float64
from plugrad.policy.lm_head import evaluating
from plugrad.policy.model_folder import cause_of, check_counts
from plugrad.policy.small_sizes import SMALL, SMALL_OF, sizes_to_give, small_fields

WHERE = "[model.from_scratch]"
NOT_FIELDS = {
    "dtype": "Set dtype in [model].",
    "torch_dtype": "Set dtype in [model].",
    "attn_implementation": "Set attn_implementation in [model].",
    "_attn_implementation": "Set attn_implementation in [model].",
    "quantization_config": "A new model has nothing to quantise: leave it out.",
    "transformers_version": "Leave it out.",
    "auto_map": "Leave it out.",
    "name_or_path": "Leave it out.",
    "architectures": "Leave it out: model_type decides.",
}
"""What Transformers takes for a field of every configuration, and what to do instead."""
LARGE = 10**9
"""More weights than anyone wants by naming nothing but a model type."""


def with_small_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return `[model.from_scratch]` with the defaults that its model type supports.

    Raises:
        ModelError: the model type or a field is unknown.
    """
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        hint = did_you_mean(str(model_type), CONFIG_MAPPING)
        raise ModelError(
            f"{WHERE} model_type is {model_type!r}, but Transformers has no such model.{hint} "
            'For example "qwen3", "llama" or "gpt2".'
        )
    given = {name: value for name, value in fields.items() if name != "model_type"}
    check_counts(given, WHERE)
    check_values(given, WHERE)
    for name in given:
        if name.startswith("_") or name in NOT_FIELDS:
            raise ModelError(f"{WHERE} {name} is no field to give there. {NOT_FIELDS.get(name, 'Leave it out.')}")
    with _building(model_type, given):
        plain = AutoConfig.for_model(model_type)
        known = frozenset(name for name in {*SMALL, *given} if _has(plain, name))
    for name in given.keys() - SMALL_OF.get(model_type, {}).keys() - known:
        raise ModelError(
            f"{WHERE} {model_type} has no field {name!r}.{did_you_mean(name, plain.to_dict())} "
            f"See the parameters of {type(plain).__name__} in Transformers."
        )
    return {**small_fields(model_type, given, known), "model_type": model_type}


def _has(config: PreTrainedConfig, name: str) -> bool:
    try:
        return hasattr(config, name)
    except Exception:
        # Configurations whose layers differ refuse to answer for all of them.
        return name in config.to_dict()


def build(
    fields: Mapping[str, Any],
    texts: Iterable[str],
    dtype: torch.dtype | str,
    attn_implementation: str | None,
    adjust: Callable[[PreTrainedConfig], None],
) -> tuple[PreTrainedModel, Tokenizer]:
    """Build the model and its tokenizer.

    Args:
        fields: `[model.from_scratch]`.
        texts: what the tokenizer must cover.
        dtype: of the weights.
        attn_implementation: passed to Transformers.
        adjust: changes the configuration before the model is built from it.

    Raises:
        ModelError: the fields do not fit together, or the texts have more characters than `vocab_size`.
    """
    tokenizer = character_tokenizer(texts)
    config = configured(fields, tokenizer)
    with _building(config.model_type, fields):
        _check_size(config, dtype)
        adjust(config)
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attn_implementation)
        run_experts_in_float64(model)
        _check_runs(model)
    return model, tokenizer


def configured(fields: Mapping[str, Any], tokenizer: Tokenizer) -> PreTrainedConfig:
    """Return the configuration of the model.

    Raises:
        ModelError: the fields do not fit together, or the texts have more characters than `vocab_size`.
    """
    values = with_small_defaults(fields)
    model_type = values.pop("model_type")
    with _building(model_type, fields):
        config = AutoConfig.for_model(model_type, **_vocabulary(model_type, tokenizer, values))
        _check_vocabulary(config, tokenizer)
    return config


def _vocabulary(model_type: str, tokenizer: Tokenizer, values: Mapping[str, Any]) -> dict[str, Any]:
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    fields = {"vocab_size": len(tokenizer), **special, **values}
    # Gemma's layers have embeddings of their own.
    if "hidden_size_per_layer_input" in SMALL_OF.get(model_type, {}):
        fields.setdefault("vocab_size_per_layer_input", fields["vocab_size"])
    return fields


@contextmanager
def _building(model_type: str, given: Mapping[str, Any]) -> Iterator[None]:
    """Turn what a configuration or a model raises, which is anything, into a ModelError that names the sizes to give."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{WHERE} cannot be built: {cause_of(error)}. {_advice(model_type, given, error)}") from error


def _advice(model_type: str, given: Mapping[str, Any], error: Exception) -> str:
    try:
        sizes = sizes_to_give(AutoConfig.for_model(model_type).to_dict(), given)
    except Exception:
        # Its defaults do not even make a configuration.
        sizes = ""
    if "attn_implementation" in str(error):
        return "Correct attn_implementation in [model], or leave it out."
    fields = f" {model_type} also has the sizes {sizes}: give those in {WHERE} too." if sizes else ""
    return f"Its fields must fit together.{fields} A model that needs no sizes is qwen3."


def _check_vocabulary(config: PreTrainedConfig, tokenizer: Tokenizer) -> None:
    size = config.get_text_config().vocab_size
    if size < len(tokenizer):
        raise ModelError(
            f"{WHERE} vocab_size is {size}, but the environment's texts have {len(tokenizer)} tokens: raise it or leave it "
            "out."
        )


def _check_size(config: PreTrainedConfig, dtype: torch.dtype | str) -> None:
    """Check that the weights fit into the memory of this machine, and that a large model is not one by accident."""
    count = _num_weights(config)
    text = config.get_text_config()
    if count > LARGE and text is not config:
        hint = f' Its language model alone is model_type = "{text.model_type}".' if text.model_type in CONFIG_MAPPING else ""
        raise ModelError(
            f"{WHERE} {config.model_type} has several parts ({', '.join(config.sub_configs)}) with sizes of their own, "
            f"{count:,} weights in all. Give the sizes in tables of those names.{hint}"
        )
    size = count * (dtype.itemsize if isinstance(dtype, torch.dtype) else torch.float32.itemsize)
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > available:
        raise ModelError(
            f"{WHERE} describes a model of {count:,} weights, {size / 2**30:,.0f} GiB: more than the "
            f"{available / 2**30:,.0f} GiB of this machine. Give smaller sizes."
        )


def _num_weights(config: PreTrainedConfig) -> int:
    """Return how many weights a model has, or 0 where it computes while it is built, which needs storage."""
    model = without_storage(config)
    # What is wrong with the fields shows when it is built.
    return 0 if model is None else sum(parameter.numel() for parameter in model.parameters())


def _check_runs(model: PreTrainedModel) -> None:
    """Run the model on four tokens: sizes that do not fit together often show only then."""
    ids = torch.zeros(1, 4, dtype=torch.long)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluating(model):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
